;; Parses paths of the form `/VERB/ARGUMENT`.
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
;; Part of the path after its second slash; empty if there is no second slash.
(global $argument_ptr (mut i32) (i32.const 0))
(global $argument_len (mut i32) (i32.const 0))

;; Returns the first letter of the verb, or 0.
(func $read_verb (result i32)
  (local $at i32)
  (global.set $argument_len (i32.const 0))
  (if (i32.lt_u (global.get $path_len) (i32.const 2)) (then (return (i32.const 0))))
  (local.set $at (i32.const 1))
  (block $found
    (loop $next
      (br_if $found (i32.ge_u (local.get $at) (global.get $path_len)))
      (if (i32.eq
            (i32.load8_u (i32.add (global.get $path_ptr) (local.get $at)))
            (i32.const 47))
        (then
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (global.set $argument_ptr (i32.add (global.get $path_ptr) (local.get $at)))
          (global.set $argument_len (i32.sub (global.get $path_len) (local.get $at)))
          (br $found)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
  (i32.load8_u offset=1 (global.get $path_ptr)))
