//! Empty for now.

pub mod beacon;
pub mod guest;
pub mod registry;
pub mod role;
