;; The value of the first environment variable, and the position of its first slash.
(import "wasi:cli/environment@0.2.0" "get-environment" (func $get_environment (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(global $value_ptr (mut i32) (i32.const 0))
(global $value_len (mut i32) (i32.const 0))
;; Number of bytes before the first slash; the whole length if there is no slash.
(global $slash (mut i32) (i32.const 0))

;; Reads the first variable. Returns whether it exists and is not empty.
(func $read_first_value (result i32)
  (call $get_environment (i32.const 0))
  (if (i32.eqz (i32.load (i32.const 4)))
    (then (return (i32.const 0))))
  (global.set $value_ptr (i32.load offset=8 (i32.load (i32.const 0))))
  (global.set $value_len (i32.load offset=12 (i32.load (i32.const 0))))
  (global.set $slash (i32.const 0))
  (block $found
    (loop $next
      (br_if $found (i32.ge_u (global.get $slash) (global.get $value_len)))
      (br_if $found
        (i32.eq
          (i32.load8_u (i32.add (global.get $value_ptr) (global.get $slash)))
          (i32.const 47)))
      (global.set $slash (i32.add (global.get $slash) (i32.const 1)))
      (br $next)))
  (i32.ne (global.get $value_len) (i32.const 0)))
