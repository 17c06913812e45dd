//! The specification as data: requirements, schema, deadlines and image roles.

pub mod deadlines;
pub mod requirements;
pub mod roles;
pub mod schema;
