;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "spin")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (if (i32.eqz (call $is_ok_path))
    (then
      (call $beacon (i32.const 0x100) (i32.const 4))
      (loop $forever (br $forever))))
  (call $respond (local.get $out)
    (i32.add (global.get $path_ptr) (i32.const 1)) (i32.const 2)))
