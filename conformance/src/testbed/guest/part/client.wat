;; An HTTP GET request; the body of the response is not read.
(import "wasi:http/types@0.2.0" "[constructor]outgoing-request"
  (func $new_request (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme"
  (func $set_scheme (param i32 i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority"
  (func $set_authority (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query"
  (func $set_path (param i32 i32 i32 i32) (result i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]outgoing-request"
  (func $drop_request (param i32)))
(import "wasi:http/outgoing-handler@0.2.0" "handle"
  (func $send_request (param i32 i32 i32 i32)))
(import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe"
  (func $subscribe_response (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[method]future-incoming-response.get"
  (func $get_response (param i32 i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]future-incoming-response"
  (func $drop_future (param i32)))
(import "wasi:http/types@0.2.0" "[method]incoming-response.status"
  (func $status (param i32) (result i32)))
(import "wasi:http/types@0.2.0" "[resource-drop]incoming-response"
  (func $drop_response (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
;; Returns the status of http://AUTHORITY/PATH, or 0 without a response.
(func $http_get
  (param $authority i32) (param $authority_len i32) (param $path i32) (param $path_len i32)
  (result i32)
  (local $request i32)
  (local $future i32)
  (local $response i32)
  (local $status i32)
  (local.set $request (call $new_request (call $new_fields)))
  (if (i32.or
        (i32.or
          (call $set_scheme (local.get $request)
            (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))
          (call $set_authority (local.get $request)
            (i32.const 1) (local.get $authority) (local.get $authority_len)))
        (call $set_path (local.get $request)
          (i32.const 1) (local.get $path) (local.get $path_len)))
    (then
      (call $drop_request (local.get $request))
      (return (i32.const 0))))
  (call $send_request (local.get $request) (i32.const 0) (i32.const 0) (i32.const 0))
  (if (i32.load8_u (i32.const 0))
    (then (return (i32.const 0))))
  (local.set $future (i32.load (i32.const 8)))
  (call $wait_until (call $subscribe_response (local.get $future)))
  (call $get_response (local.get $future) (i32.const 0))
  ;; some(ok(ok(response)))
  (if (i32.and
        (i32.load8_u (i32.const 0))
        (i32.eqz (i32.or (i32.load8_u (i32.const 8)) (i32.load8_u (i32.const 16)))))
    (then
      (local.set $response (i32.load (i32.const 24)))
      (local.set $status (call $status (local.get $response)))
      (call $drop_response (local.get $response))))
  (call $drop_future (local.get $future))
  (local.get $status))
