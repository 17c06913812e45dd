;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "up") ;; name of the beacon

(func (export "wasi:cli/run@0.2.0#run") (result i32)
  (call $beacon (i32.const 0x100) (i32.const 2))
  (loop $forever
    (call $wait_ms (i64.const 3600000))
    (br $forever))
  unreachable)
