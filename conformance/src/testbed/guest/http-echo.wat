(import "wasi:http/types@0.2.0" "[method]incoming-request.method"
  (func $method (param i32 i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-request.headers"
  (func $headers (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]fields.get"
  (func $get_header (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]fields"
  (func $drop_fields (param i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-request.consume"
  (func $consume (param i32 i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-body.stream"
  (func $incoming_stream (param i32 i32)))
(import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read"
  (func $read_stream (param i32 i64 i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]input-stream"
  (func $drop_input (param i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]incoming-body"
  (func $drop_incoming_body (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
;; Method names, eight bytes each, followed by a table of their lengths.
(data (i32.const 0x100)
  "GET\00\00\00\00\00HEAD\00\00\00\00POST\00\00\00\00PUT\00\00\00\00\00DELETE\00\00CONNECT\00OPTIONS\00TRACE\00\00\00PATCH\00\00\00")
(data (i32.const 0x150) "\03\04\04\03\06\07\07\05\05")
(data (i32.const 0x160) "x-berth")
(data (i32.const 0x168) "\n")
(data (i32.const 0x169) "-")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $read_path (local.get $request))
  (call $begin_response (local.get $out))
  (call $write_method (local.get $request))
  (call $write_body (i32.const 0x168) (i32.const 1))
  (call $write_body (global.get $path_ptr) (global.get $path_len))
  (call $write_body (i32.const 0x168) (i32.const 1))
  (call $write_header (local.get $request))
  (call $write_body (i32.const 0x168) (i32.const 1))
  (call $write_request_body (local.get $request))
  (call $end_response)
  (call $drop_incoming (local.get $request)))

(func $write_method (param $request i32)
  (local $index i32)
  (call $method (local.get $request) (i32.const 0))
  (local.set $index (i32.load8_u (i32.const 0)))
  (if (i32.lt_u (local.get $index) (i32.const 9))
    (then
      (call $write_body
        (i32.add (i32.const 0x100) (i32.shl (local.get $index) (i32.const 3)))
        (i32.load8_u offset=0x150 (local.get $index))))
    (else
      (call $write_body (i32.load (i32.const 4)) (i32.load (i32.const 8))))))

(func $write_header (param $request i32)
  (local $fields i32)
  (local.set $fields (call $headers (local.get $request)))
  (call $get_header (local.get $fields) (i32.const 0x160) (i32.const 7) (i32.const 0))
  (call $drop_fields (local.get $fields))
  (if (i32.load (i32.const 4))
    (then
      (call $write_body
        (i32.load (i32.load (i32.const 0)))
        (i32.load offset=4 (i32.load (i32.const 0)))))
    (else (call $write_body (i32.const 0x169) (i32.const 1)))))

(func $write_request_body (param $request i32)
  (local $incoming i32)
  (local $input i32)
  (call $consume (local.get $request) (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then return))
  (local.set $incoming (i32.load (i32.const 4)))
  (call $incoming_stream (local.get $incoming) (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then return))
  (local.set $input (i32.load (i32.const 4)))
  (block $done
    (loop $next
      (call $reset_heap)
      (call $read_stream (local.get $input) (i64.const 4096) (i32.const 0))
      (br_if $done (i32.load8_u (i32.const 0)))
      (call $write_body (i32.load (i32.const 4)) (i32.load (i32.const 8)))
      (br $next)))
  (call $drop_input (local.get $input))
  (call $drop_incoming_body (local.get $incoming)))
