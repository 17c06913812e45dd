//! What is judged: how to reach or launch a host, and what it claims to be.

mod images;
mod live;

pub use images::Images;
pub use live::LiveHost;
