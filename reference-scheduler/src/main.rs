//! The command line of the reference scheduler.

fn main() {}
