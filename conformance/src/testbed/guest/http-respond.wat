(import "wasi:http/types@0.2.0" "[method]fields.append"
  (func $append (param i32 i32 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-response.set-status-code"
  (func $set_status (param i32 i32) (result i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "content-type")
(data (i32.const 0x110) "application/x-berth")
(data (i32.const 0x124) "x-berth")
(data (i32.const 0x12c) "second value")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $fields i32)
  (local $response i32)
  (local $left i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (local.set $fields (call $new_fields))
  (call $append (local.get $fields)
    (i32.const 0x100) (i32.const 12) (i32.const 0x110) (i32.const 19) (i32.const 0))
  (call $append (local.get $fields)
    (i32.const 0x124) (i32.const 7)
    (i32.add (global.get $path_ptr) (i32.const 1))
    (i32.sub (global.get $path_len) (i32.const 1))
    (i32.const 0))
  (call $append (local.get $fields)
    (i32.const 0x124) (i32.const 7) (i32.const 0x12c) (i32.const 12) (i32.const 0))
  (local.set $response (call $new_response (local.get $fields)))
  (drop (call $set_status (local.get $response) (call $requested_status)))
  (call $begin (local.get $out) (local.get $response))
  (call $fill)
  (local.set $left (i32.const 32))
  (loop $next
    (call $write_body (i32.const 0x8000) (i32.const 4096))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $next (local.get $left)))
  (call $end_response))

;; Returns the number in the path.
(func $requested_status (result i32)
  (local $at i32)
  (local $number i32)
  (local.set $at (i32.const 1))
  (block $end
    (loop $next
      (br_if $end (i32.ge_u (local.get $at) (global.get $path_len)))
      (local.set $number
        (i32.add
          (i32.mul (local.get $number) (i32.const 10))
          (i32.sub
            (i32.load8_u (i32.add (global.get $path_ptr) (local.get $at)))
            (i32.const 48))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
  (local.get $number))

;; Fills 4096 bytes with the lowest bytes of their addresses.
(func $fill
  (local $at i32)
  (local.set $at (i32.const 0x8000))
  (loop $next
    (i32.store8 (local.get $at) (local.get $at))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 0x9000)))))
