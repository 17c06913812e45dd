;; Creates empty header fields.
(import "wasi:http/types@0.2.0" "[constructor]fields"
  (func $new_fields (result i32)))
;; end of imports: recipe.rs adds the parts, which define the other functions
