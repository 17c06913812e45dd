;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "hello")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $reset_heap)
  (call $drop_incoming (local.get $request))
  (if (call $read_first_value)
    (then (call $respond (local.get $out) (global.get $value_ptr) (global.get $value_len)))
    (else (call $respond (local.get $out) (i32.const 0x100) (i32.const 5)))))
