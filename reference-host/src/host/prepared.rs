//! A component or service between its preparation and its start.

use super::start_failure::Part;
use crate::engine::Linked;

/// A component or service whose imports are linked.
pub(super) struct Prepared {
    pub part: Part,
    pub linked: Linked,
}
