;; Waits for a time and yields to the host during the wait.
(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
  (func $subscribe_duration (param i64) (result i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(func $wait_ms (param $ms i64)
  (call $wait_until
    (call $subscribe_duration (i64.mul (local.get $ms) (i64.const 1000000)))))
