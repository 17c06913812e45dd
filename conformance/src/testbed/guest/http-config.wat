(import "wasi:config/store@0.2.0-rc.1" "get"
  (func $get_config (param i32 i32 i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "none")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (if (global.get $path_len)
    (then
      (call $get_config
        (i32.add (global.get $path_ptr) (i32.const 1))
        (i32.sub (global.get $path_len) (i32.const 1))
        (i32.const 0))
      ;; ok(some(value))
      (if (i32.and (i32.eqz (i32.load8_u (i32.const 0))) (i32.load8_u (i32.const 4)))
        (then
          (call $respond (local.get $out) (i32.load (i32.const 8)) (i32.load (i32.const 12)))
          return))))
  (call $respond (local.get $out) (i32.const 0x100) (i32.const 4)))
