;; Sends a beacon: GET http://HOST:PORT/TOKEN/NAME. Errors are ignored.
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(func $beacon (param $name i32) (param $name_len i32)
  (local $heap i32)
  (local.set $heap (global.get $heap))
  (block $silent
    (br_if $silent (i32.eqz (call $read_first_value)))
    ;; The text buffer has 1 KiB.
    (br_if $silent (i32.gt_u (global.get $value_len) (i32.const 900)))
    (call $set_write_ptr (i32.const 0x400))
    (call $write
      (i32.add (global.get $value_ptr) (global.get $slash))
      (i32.sub (global.get $value_len) (global.get $slash)))
    (call $write_byte (i32.const 47))
    (call $write (local.get $name) (local.get $name_len))
    (drop (call $http_get
      (global.get $value_ptr) (global.get $slash)
      (i32.const 0x400) (i32.sub (global.get $write_ptr) (i32.const 0x400)))))
  (global.set $heap (local.get $heap)))
