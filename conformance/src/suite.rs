//! Catalog of each side. Only this module and [`cli`](crate::cli) depend on both sides.

use crate::check::catalog::Catalog;
use crate::check::side::Side;
use crate::{host, scheduler};

/// Returns the checks and monitors of a side.
pub fn catalog(side: Side) -> Catalog {
    match side {
        Side::Host => host::catalog(),
        Side::Scheduler => scheduler::catalog(),
    }
}
