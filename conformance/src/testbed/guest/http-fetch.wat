;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "denied")
(data (i32.const 0x108) "/")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $status i32)
  (call $reset_heap)
  (call $drop_incoming (local.get $request))
  (if (call $read_first_value)
    (then (local.set $status (call $fetch))))
  (if (local.get $status)
    (then
      (call $set_write_ptr (i32.const 0x400))
      (call $write_number (local.get $status))
      (call $respond (local.get $out)
        (i32.const 0x400) (i32.sub (global.get $write_ptr) (i32.const 0x400))))
    (else (call $respond (local.get $out) (i32.const 0x100) (i32.const 6)))))

(func $fetch (result i32)
  (if (i32.eq (global.get $slash) (global.get $value_len))
    (then
      (return
        (call $http_get (global.get $value_ptr) (global.get $slash)
          (i32.const 0x108) (i32.const 1)))))
  (call $http_get (global.get $value_ptr) (global.get $slash)
    (i32.add (global.get $value_ptr) (global.get $slash))
    (i32.sub (global.get $value_len) (global.get $slash))))
