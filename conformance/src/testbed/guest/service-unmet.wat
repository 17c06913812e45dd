(import "acme:nope/thing@1.0.0" "miss" (func $miss))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(func (export "wasi:cli/run@0.2.0#run") (result i32)
  (call $miss)
  (i32.const 0))
