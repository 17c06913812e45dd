//! Declaration of a check: an entry of a const table with its body and its requirements.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use super::context::CheckContext;
use crate::check::isolation::HostIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Flow;
use crate::spec::roles::Role;

/// Future of a check body.
pub type CheckFuture<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

/// Function pointer to a check body.
pub type CheckBody = for<'a> fn(&'a CheckContext) -> CheckFuture<'a>;

/// Prerequisite of a check; without it, the check is `not-testable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The suite's tap is between the host and the broker.
    Tap,
    /// The suite launched the host, so it has access to its process and log.
    Process,
    /// The host serves HTTP.
    Ingress,
    /// The host pulls images from the suite's registry.
    Registry,
}

/// Entry of a check table, declared with [`check!`](crate::host::check!).
#[derive(Clone, Copy)]
pub struct Check {
    /// Metadata that all checks have, for hosts and for schedulers.
    pub meta: CheckMeta,
    /// Body of the check.
    pub run: CheckBody,
    /// Kind of host that the check runs on.
    pub host: HostIsolation,
    /// Roles of the images that the check pushes.
    pub roles: &'static [Role],
    /// Prerequisites besides the bus.
    pub needs: &'static [Need],
    /// Feature that a target can declare absent, and the body that then verifies that its use is
    /// refused.
    pub feature: Option<(&'static str, CheckBody)>,
    /// Time that the check waits by design, in seconds, if it is longer than 10 s.
    pub waits_s: u64,
}

impl Deref for Check {
    type Target = CheckMeta;

    fn deref(&self) -> &CheckMeta {
        &self.meta
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.meta.fmt(f)
    }
}

/// Declares a [`Check`](crate::host::check::Check) in a const table.
///
/// ```text
/// pub const CHECKS: &[Check] = &[
///     check! { id: "start/simultaneous", run: simultaneous, covers: [HOST_START_003],
///              host: Shared, roles: [Idle], budget_s: 20, slow: false },
/// ];
/// ```
/// `needs: [Tap, ..]`, `feature: ("name", refused_body)` and `waits_s: 31` may follow `roles`, in
/// this order.
macro_rules! check {
    (
        id: $id:literal, run: $run:path, covers: [$($covers:ident),+ $(,)?], host: $host:ident,
        roles: [$($role:ident),* $(,)?],
        $(needs: [$($need:ident),* $(,)?],)?
        $(feature: ($feature:literal, $refused:path),)?
        $(waits_s: $waits:literal,)?
        budget_s: $budget:literal, slow: $slow:literal $(,)?
    ) => {
        $crate::host::check::Check {
            meta: $crate::check::meta::CheckMeta {
                id: $id,
                covers: &[$(&$crate::spec::requirements::$covers),+],
                budget_s: $budget,
                slow: $slow,
                file: file!(),
                line: line!(),
            },
            run: |cx| Box::pin($run(cx)),
            host: $crate::check::isolation::HostIsolation::$host,
            roles: &[$($crate::spec::roles::Role::$role),*],
            needs: &[$($($crate::host::check::Need::$need),*)?],
            feature: check!(@feature $($feature, $refused)?),
            waits_s: 0 $(+ $waits)?,
        }
    };
    (@feature $name:literal, $refused:path) => { Some(($name, |cx| Box::pin($refused(cx)))) };
    (@feature) => { None };
}

pub(crate) use check;
