;; The path of a request, and a response with status 200 whose body is written piece by piece.
(import "wasi:http/types@0.2.0" "[method]incoming-request.path-with-query"
  (func $path_with_query (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]incoming-request"
  (func $drop_incoming (param i32)))
(import "wasi:http/types@0.2.0" "[constructor]outgoing-response"
  (func $new_response (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-response.body"
  (func $response_body (param i32 i32)))
(import "wasi:http/types@0.2.0" "[static]response-outparam.set"
  (func $set_response (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-body.write"
  (func $body_stream (param i32 i32)))
(import "wasi:http/types@0.2.0" "[static]outgoing-body.finish"
  (func $finish_body (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
  (func $write_stream (param i32 i32 i32 i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]output-stream"
  (func $drop_output (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(global $path_ptr (mut i32) (i32.const 0))
(global $path_len (mut i32) (i32.const 0))
(global $body (mut i32) (i32.const 0))
(global $stream (mut i32) (i32.const 0))

(func $read_path (param $request i32)
  (call $reset_heap)
  (call $path_with_query (local.get $request) (i32.const 0))
  (global.set $path_len (i32.const 0))
  (if (i32.load8_u (i32.const 0))
    (then
      (global.set $path_ptr (i32.load (i32.const 4)))
      (global.set $path_len (i32.load (i32.const 8))))))

;; Returns whether the path is `/ok`.
(func $is_ok_path (result i32)
  (if (i32.ne (global.get $path_len) (i32.const 3))
    (then (return (i32.const 0))))
  (i32.and
    (i32.eq (i32.load16_u align=1 (global.get $path_ptr)) (i32.const 0x6f2f))
    (i32.eq (i32.load8_u offset=2 (global.get $path_ptr)) (i32.const 0x6b))))

(func $begin_response (param $out i32)
  (call $begin (local.get $out) (call $new_response (call $new_fields))))

(func $begin (param $out i32) (param $response i32)
  (call $response_body (local.get $response) (i32.const 0))
  (global.set $body (i32.load (i32.const 4)))
  (call $body_stream (global.get $body) (i32.const 0))
  (global.set $stream (i32.load (i32.const 4)))
  (call $set_response (local.get $out) (i32.const 0) (local.get $response)
    (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))

;; Writes to the body, at most 4096 bytes at once, until the stream is closed.
(func $write_body (param $ptr i32) (param $len i32)
  (local $piece i32)
  (block $done
    (loop $next
      (br_if $done (i32.eqz (local.get $len)))
      (local.set $piece
        (select (i32.const 4096) (local.get $len)
          (i32.gt_u (local.get $len) (i32.const 4096))))
      (call $write_stream (global.get $stream)
        (local.get $ptr) (local.get $piece) (i32.const 0))
      (br_if $done (i32.load8_u (i32.const 0)))
      (local.set $ptr (i32.add (local.get $ptr) (local.get $piece)))
      (local.set $len (i32.sub (local.get $len) (local.get $piece)))
      (br $next))))

(func $end_response
  (call $drop_output (global.get $stream))
  (call $finish_body (global.get $body) (i32.const 0) (i32.const 0) (i32.const 0)))

(func $respond (param $out i32) (param $ptr i32) (param $len i32)
  (call $begin_response (local.get $out))
  (call $write_body (local.get $ptr) (local.get $len))
  (call $end_response))
