//! The chores of this repository, behind `cargo xtask`.

pub mod r#gen;
pub mod requirement_index;
pub mod tidy;
