(import "wasi:logging/logging@0.1.0-draft" "log"
  (func $log (param i32 i32 i32 i32 i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "ok")
(data (i32.const 0x108) "berth")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (call $log (i32.const 2)
    (i32.const 0x108) (i32.const 5) (global.get $path_ptr) (global.get $path_len))
  (call $respond (local.get $out) (i32.const 0x100) (i32.const 2)))
