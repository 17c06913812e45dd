;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(data (i32.const 0x100) "ok")
(data (i32.const 0x108) "refused")

(func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
  (local $mib i32)
  (call $read_path (local.get $request))
  (call $drop_incoming (local.get $request))
  (local.set $mib (call $requested_mib))
  (if (i32.lt_s (local.get $mib) (i32.const 0))
    (then
      (loop $endless (br_if $endless (call $grow_mib)))
      unreachable))
  (block $refused
    (loop $next
      (if (local.get $mib)
        (then
          (br_if $refused (i32.eqz (call $grow_mib)))
          (local.set $mib (i32.sub (local.get $mib) (i32.const 1)))
          (br $next))))
    (call $respond (local.get $out) (i32.const 0x100) (i32.const 2))
    return)
  (call $respond (local.get $out) (i32.const 0x108) (i32.const 7)))

;; Returns the number in the path, or -1 if it is not a number.
(func $requested_mib (result i32)
  (local $at i32)
  (local $digit i32)
  (local $number i32)
  (local.set $at (i32.const 1))
  (loop $next
    (if (i32.lt_u (local.get $at) (global.get $path_len))
      (then
        (local.set $digit
          (i32.sub
            (i32.load8_u (i32.add (global.get $path_ptr) (local.get $at)))
            (i32.const 48)))
        (if (i32.gt_u (local.get $digit) (i32.const 9)) (then (return (i32.const -1))))
        (local.set $number
          (i32.add (i32.mul (local.get $number) (i32.const 10)) (local.get $digit)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))
  (local.get $number))

;; Grows the memory by 16 pages of 64 KiB and writes to each 4 KiB of them. Returns whether the
;; memory was granted.
(func $grow_mib (result i32)
  (local $at i32)
  (local $page i32)
  (local.set $page (memory.grow (i32.const 16)))
  (if (i32.lt_s (local.get $page) (i32.const 0)) (then (return (i32.const 0))))
  (local.set $at (i32.shl (local.get $page) (i32.const 16)))
  (local.set $page (i32.const 256))
  (loop $next
    (i32.store8 (local.get $at) (i32.const 1))
    (local.set $at (i32.add (local.get $at) (i32.const 4096)))
    (local.set $page (i32.sub (local.get $page) (i32.const 1)))
    (br_if $next (local.get $page)))
  (i32.const 1))
