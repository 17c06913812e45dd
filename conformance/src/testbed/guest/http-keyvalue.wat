(import "wasi:keyvalue/store@0.2.0-draft" "open"
  (func $open (param i32 i32 i32)))
(import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get"
  (func $get (param i32 i32 i32 i32)))
(import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.set"
  (func $set (param i32 i32 i32 i32 i32 i32)))
(import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.delete"
  (func $delete (param i32 i32 i32 i32)))
(import "wasi:keyvalue/store@0.2.0-draft" "[resource-drop]bucket"
  (func $drop_bucket (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "error")
(data (i32.const 0x108) "ok")
(data (i32.const 0x110) "none")
(data (i32.const 0x118) "default")
(data (i32.const 0x120) "berth")

;; The text of the response.
(global $ptr (mut i32) (i32.const 0))
(global $len (mut i32) (i32.const 0))

(func $set_result (param $ptr i32) (param $len i32)
  (global.set $ptr (local.get $ptr))
  (global.set $len (local.get $len)))

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $bucket i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (call $set_result (i32.const 0x100) (i32.const 5))
  (call $open (i32.const 0x118) (i32.const 7) (i32.const 0))
  (if (i32.eqz (i32.load8_u (i32.const 0)))
    (then
      (local.set $bucket (i32.load (i32.const 4)))
      (call $execute (local.get $bucket) (call $read_verb))
      (call $drop_bucket (local.get $bucket))))
  (call $respond (local.get $out) (global.get $ptr) (global.get $len)))

(func $execute (param $bucket i32) (param $verb i32)
  (if (i32.eq (local.get $verb) (i32.const 0x67)) ;; g(et)
    (then
      (call $get (local.get $bucket)
        (global.get $argument_ptr) (global.get $argument_len) (i32.const 0))
      (if (i32.load8_u (i32.const 0)) (then return))
      (if (i32.load8_u (i32.const 4))
        (then (call $set_result (i32.load (i32.const 8)) (i32.load (i32.const 12))))
        (else (call $set_result (i32.const 0x110) (i32.const 4))))
      return))
  (if (i32.eq (local.get $verb) (i32.const 0x73)) ;; s(et)
    (then
      (call $set (local.get $bucket)
        (global.get $argument_ptr) (global.get $argument_len)
        (i32.const 0x120) (i32.const 5) (i32.const 0)))
    (else
      (call $delete (local.get $bucket)
        (global.get $argument_ptr) (global.get $argument_len) (i32.const 0))))
  (if (i32.eqz (i32.load8_u (i32.const 0)))
    (then (call $set_result (i32.const 0x108) (i32.const 2)))))
