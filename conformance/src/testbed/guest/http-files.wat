(import "wasi:filesystem/preopens@0.2.0" "get-directories"
  (func $get_directories (param i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
  (func $open_at (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.read"
  (func $read_file (param i32 i64 i64 i32)))
(import "wasi:filesystem/types@0.2.0" "[method]descriptor.write"
  (func $write_file (param i32 i32 i32 i64 i32)))
(import "wasi:filesystem/types@0.2.0" "[resource-drop]descriptor"
  (func $drop_descriptor (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "denied")
(data (i32.const 0x108) "ok")
(data (i32.const 0x110) "berth")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $verb i32)
  (local $directory i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (local.set $verb (call $read_verb))
  (call $get_directories (i32.const 0))
  (if (i32.eq (local.get $verb) (i32.const 0x6c)) ;; l(ist)
    (then
      (call $set_write_ptr (i32.const 0x400))
      (call $write_number (i32.load (i32.const 4)))
      (call $respond (local.get $out)
        (i32.const 0x400) (i32.sub (global.get $write_ptr) (i32.const 0x400)))
      return))
  (block $denied
    (br_if $denied (i32.eqz (i32.load (i32.const 4))))
    (br_if $denied (i32.eqz (global.get $argument_len)))
    (local.set $directory (i32.load (i32.load (i32.const 0))))
    (if (i32.eq (local.get $verb) (i32.const 0x72)) ;; r(ead)
      (then
        (br_if $denied (i32.eqz (call $read (local.get $directory))))
        (call $respond (local.get $out) (i32.load (i32.const 4)) (i32.load (i32.const 8)))
        return))
    (br_if $denied (i32.eqz (call $write_berth (local.get $directory))))
    (call $respond (local.get $out) (i32.const 0x108) (i32.const 2))
    return)
  (call $respond (local.get $out) (i32.const 0x100) (i32.const 6)))

;; Reads up to 4096 bytes of the file into the list at 4. Returns whether the read succeeded.
(func $read (param $directory i32) (result i32)
  (local $file i32)
  (call $open_at (local.get $directory) (i32.const 0)
    (global.get $argument_ptr) (global.get $argument_len)
    (i32.const 0) (i32.const 1) (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
  (local.set $file (i32.load (i32.const 4)))
  (call $read_file (local.get $file) (i64.const 4096) (i64.const 0) (i32.const 0))
  (call $drop_descriptor (local.get $file))
  (i32.eqz (i32.load8_u (i32.const 0))))

;; Creates or truncates the file and writes to it. Returns whether the write succeeded.
(func $write_berth (param $directory i32) (result i32)
  (local $file i32)
  (call $open_at (local.get $directory) (i32.const 0)
    (global.get $argument_ptr) (global.get $argument_len)
    (i32.const 9) (i32.const 2) (i32.const 0))
  (if (i32.load8_u (i32.const 0)) (then (return (i32.const 0))))
  (local.set $file (i32.load (i32.const 4)))
  (call $write_file (local.get $file)
    (i32.const 0x110) (i32.const 5) (i64.const 0) (i32.const 0))
  (call $drop_descriptor (local.get $file))
  (i32.eqz (i32.load8_u (i32.const 0))))
