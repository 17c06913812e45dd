;; Waits for a pollable and yields to the host during the wait.
(import "wasi:io/poll@0.2.0" "[method]pollable.block"
  (func $block (param i32)))
(import "wasi:io/poll@0.2.0" "[resource-drop]pollable"
  (func $drop_pollable (param i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
(func $wait_until (param $pollable i32)
  (call $block (local.get $pollable))
  (call $drop_pollable (local.get $pollable)))
