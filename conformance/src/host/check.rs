//! How a check is declared: an entry of a const table that names its body and what it covers.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;

use super::context::CheckContext;
use crate::check::isolation::HostIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Flow;
use crate::spec::roles::Role;

/// The future of a check body.
pub type Running<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

/// A check body behind a plain function pointer.
pub type Body = for<'a> fn(&'a CheckContext) -> Running<'a>;

/// Equipment that a check cannot do without; where it is missing the check is `not-testable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The suite sits between the host and the broker.
    Tap,
    /// The suite launched the host, so it has its process and its log.
    Process,
    /// The host serves HTTP.
    Ingress,
    /// The host pulls images from the suite's registry.
    Registry,
}

/// An entry of a check table. Written with [`check!`](crate::host::check!).
#[derive(Clone, Copy)]
pub struct Check {
    /// What it has in common with the checks of schedulers.
    pub meta: CheckMeta,
    /// The code.
    pub run: Body,
    /// Which host it runs against.
    pub host: HostIsolation,
    /// The images that it pushes.
    pub roles: &'static [Role],
    /// The equipment that it needs beyond a bus.
    pub needs: &'static [Need],
    /// A feature that a target may declare absent, and the body that verifies the refusal then.
    pub feature: Option<(&'static str, Body)>,
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
/// `needs: [Tap, ..]` and `feature: ("name", refused_body)` may follow `roles`.
macro_rules! check {
    (
        id: $id:literal, run: $run:path, covers: [$($covers:ident),+ $(,)?], host: $host:ident,
        roles: [$($role:ident),* $(,)?],
        $(needs: [$($need:ident),* $(,)?],)?
        $(feature: ($feature:literal, $refused:path),)?
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
        }
    };
    (@feature $name:literal, $refused:path) => { Some(($name, |cx| Box::pin($refused(cx)))) };
    (@feature) => { None };
}

pub(crate) use check;
