;; A word to the suite: GET http://HOST:PORT/TOKEN/WORD. Failure is not the guest's business.
;; code
(func $beacon (param $word i32) (param $word_len i32)
  (local $heap i32)
  (local.set $heap (global.get $heap))
  (block $silent
    (br_if $silent (i32.eqz (call $first_value)))
    ;; The text in the making has 1 KiB.
    (br_if $silent (i32.gt_u (global.get $value_len) (i32.const 900)))
    (call $pen_at (i32.const 0x400))
    (call $write
      (i32.add (global.get $value_ptr) (global.get $slash))
      (i32.sub (global.get $value_len) (global.get $slash)))
    (call $write_byte (i32.const 47))
    (call $write (local.get $word) (local.get $word_len))
    (drop (call $http_get
      (global.get $value_ptr) (global.get $slash)
      (i32.const 0x400) (i32.sub (global.get $pen) (i32.const 0x400)))))
  (global.set $heap (local.get $heap)))
