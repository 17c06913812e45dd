;; Creates empty header fields.
(import "wasi:http/types@0.2.0" "[constructor]fields"
  (func $new_fields (result i32)))
;; Marker for recipe.rs: imports above, code below. The shared functions are in part/*.wat.
