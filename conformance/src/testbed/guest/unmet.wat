(import "acme:nope/thing@1.0.0" "miss" (func $miss))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $miss)
  (call $drop_incoming (local.get $request))
  (call $respond (local.get $out) (i32.const 0) (i32.const 0)))
