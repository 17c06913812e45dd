(import "wasi:sockets/instance-network@0.2.0" "instance-network"
  (func $instance_network (result i32)))
(import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
  (func $create_socket (param i32 i32)))
(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.start-connect"
  (func $start_connect
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.finish-connect"
  (func $finish_connect (param i32 i32)))
(import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.subscribe"
  (func $subscribe_socket (param i32) (result i32)))
(import "wasi:sockets/tcp@0.2.0" "[resource-drop]tcp-socket"
  (func $drop_socket (param i32)))
(import "wasi:io/streams@0.2.0" "[resource-drop]input-stream"
  (func $drop_socket_input (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "denied")
(data (i32.const 0x108) "open")

;; Position of the next number in the address.
(global $cursor (mut i32) (i32.const 0))

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (call $reset_heap)
  (call $drop_incoming (local.get $request))
  (if (call $read_first_value)
    (then
      (if (call $try_connect)
        (then
          (call $respond (local.get $out) (i32.const 0x108) (i32.const 4))
          return))))
  (call $respond (local.get $out) (i32.const 0x100) (i32.const 6)))

;; Parses the decimal number at the cursor and moves the cursor past the delimiter.
(func $read_number (result i32)
  (local $number i32)
  (local $digit i32)
  (block $end
    (loop $next
      (br_if $end (i32.ge_u (global.get $cursor) (global.get $slash)))
      (local.set $digit
        (i32.sub
          (i32.load8_u (i32.add (global.get $value_ptr) (global.get $cursor)))
          (i32.const 48)))
      (global.set $cursor (i32.add (global.get $cursor) (i32.const 1)))
      (br_if $end (i32.gt_u (local.get $digit) (i32.const 9)))
      (local.set $number
        (i32.add (i32.mul (local.get $number) (i32.const 10)) (local.get $digit)))
      (br $next)))
  (local.get $number))

(func $try_connect (result i32)
  (local $socket i32)
  (local $a i32) (local $b i32) (local $c i32) (local $d i32)
  (call $create_socket (i32.const 0) (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
  (local.set $socket (i32.load (i32.const 4)))
  (global.set $cursor (i32.const 0))
  (local.set $a (call $read_number))
  (local.set $b (call $read_number))
  (local.set $c (call $read_number))
  (local.set $d (call $read_number))
  (call $start_connect (local.get $socket) (call $instance_network)
    (i32.const 0) (call $read_number)
    (local.get $a) (local.get $b) (local.get $c) (local.get $d)
    (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
  (loop $waiting
    (call $wait_until (call $subscribe_socket (local.get $socket)))
    (call $finish_connect (local.get $socket) (i32.const 0))
    (if (i32.load8_u (i32.const 0))
      (then
        ;; 8: would-block
        (br_if $waiting (i32.eq (i32.load8_u (i32.const 4)) (i32.const 8)))
        (return (i32.const 0)))))
  (call $drop_socket_input (i32.load (i32.const 4)))
  (call $drop_output (i32.load (i32.const 8)))
  (call $drop_socket (local.get $socket))
  (i32.const 1))
