;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "=")
(data (i32.const 0x101) "\n")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $entry i32)
  (local $left i32)
  (call $reset_heap)
  (call $drop_incoming (local.get $request))
  (call $get_environment (i32.const 0))
  (local.set $entry (i32.load (i32.const 0)))
  (local.set $left (i32.load (i32.const 4)))
  (call $begin_response (local.get $out))
  (loop $next
    (if (local.get $left)
      (then
        (call $write_body (i32.load (local.get $entry)) (i32.load offset=4 (local.get $entry)))
        (call $write_body (i32.const 0x100) (i32.const 1))
        (call $write_body
          (i32.load offset=8 (local.get $entry)) (i32.load offset=12 (local.get $entry)))
        (call $write_body (i32.const 0x101) (i32.const 1))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next))))
  (call $end_response))
