;; Memory layout: 0x000 results of calls, 0x100 the guest's own text, 0x400 text buffer, 0x800 heap.
;; Nothing is freed: a guest that is called repeatedly resets the heap.
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(memory (export "memory") 1)
(global $heap (mut i32) (i32.const 0x800))
(global $write_ptr (mut i32) (i32.const 0x400))

(func $reset_heap
  (global.set $heap (i32.const 0x800)))

(func $cabi_realloc (export "cabi_realloc")
  (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32) (result i32)
  (local $new i32)
  (local $have i32)
  (local.set $new
    (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
  (global.set $heap (i32.add (local.get $new) (local.get $bytes)))
  (local.set $have (i32.shl (memory.size) (i32.const 16)))
  (if (i32.gt_u (global.get $heap) (local.get $have))
    (then
      (if (i32.lt_s
            (memory.grow
              (i32.add
                (i32.shr_u (i32.sub (global.get $heap) (local.get $have)) (i32.const 16))
                (i32.const 1)))
            (i32.const 0))
        (then unreachable))))
  (memory.copy (local.get $new) (local.get $old) (local.get $old_bytes))
  (local.get $new))

(func $set_write_ptr (param $ptr i32)
  (global.set $write_ptr (local.get $ptr)))

(func $write (param $ptr i32) (param $len i32)
  (memory.copy (global.get $write_ptr) (local.get $ptr) (local.get $len))
  (global.set $write_ptr (i32.add (global.get $write_ptr) (local.get $len))))

(func $write_byte (param $byte i32)
  (i32.store8 (global.get $write_ptr) (local.get $byte))
  (global.set $write_ptr (i32.add (global.get $write_ptr) (i32.const 1))))

;; Writes the number in decimal.
(func $write_number (param $number i32)
  (if (i32.ge_u (local.get $number) (i32.const 10))
    (then (call $write_number (i32.div_u (local.get $number) (i32.const 10)))))
  (call $write_byte
    (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10)))))
