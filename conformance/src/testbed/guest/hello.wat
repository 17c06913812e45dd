;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "hello")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $drop_incoming (local.get $request))
  (call $respond (local.get $out) (i32.const 0x100) (i32.const 5)))
