//! How a check is declared: an entry of a const table that names its body and what it covers.

use std::{future::Future, ops::Deref, pin::Pin};

use crate::{
    cx::Cx,
    outcome::Flow,
    requirements::{Level, Profile, Requirement},
    role::Role,
};

/// The future of a check body.
pub type Running<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

/// A check body behind a plain function pointer.
pub type Body = for<'a> fn(&'a Cx) -> Running<'a>;

/// Which host process a check runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The one host of the run, together with many other checks at the same moment.
    Shared,
    /// A process of its own, launched from the target's command: it may be cut off, signalled, killed.
    Own,
    /// A host on which nothing else happens: its own process when one can be launched, else the only
    /// host there is, alone, after all other checks.
    Quiet,
}

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

/// What every check has, whichever side it judges.
#[derive(Clone, Copy)]
pub struct Case {
    /// `section/name`, unique.
    pub id: &'static str,
    /// Every requirement that the body claims something about, each time it runs.
    pub covers: &'static [&'static Requirement],
    /// How long the harness lets it run. Not a deadline of the specification.
    pub budget_s: u64,
    /// Longer than half a minute by nature: runs only with `--slow`.
    pub slow: bool,
    /// The file of the table entry.
    pub file: &'static str,
    /// The line of the table entry.
    pub line: u32,
}

/// An entry of a check table. Written with [`check!`](crate::check!).
#[derive(Clone, Copy)]
pub struct Check {
    /// What it has in common with the checks of schedulers.
    pub case: Case,
    /// The code.
    pub run: Body,
    /// Which host it runs against.
    pub host: Host,
    /// The images that it pushes.
    pub roles: &'static [Role],
    /// The equipment that it needs beyond a bus.
    pub needs: &'static [Need],
    /// A feature that a target may declare absent, and the body that verifies the refusal then.
    pub feature: Option<(&'static str, Body)>,
}

impl Deref for Check {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.case
    }
}

impl Case {
    /// The part of the id before the slash.
    pub fn section(&self) -> &'static str {
        self.id.split('/').next().unwrap_or(self.id)
    }

    /// The strictest level among what it covers.
    pub fn level(&self) -> Level {
        self.covers
            .iter()
            .map(|requirement| requirement.level)
            .min()
            .unwrap_or(Level::May)
    }

    /// Whether it covers anything of one of the profiles.
    pub fn serves(&self, profiles: &[Profile]) -> bool {
        self.covers
            .iter()
            .any(|requirement| profiles.contains(&requirement.profile))
    }
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.case.fmt(f)
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// Declares a [`Check`](crate::check::Check) in a const table.
///
/// ```text
/// pub const CHECKS: &[Check] = &[
///     check! { id: "start/simultaneous", run: simultaneous, covers: [HOST_START_003],
///              host: Shared, roles: [Idle], budget_s: 20, slow: false },
/// ];
/// ```
/// `needs: [Tap, ..]` and `feature: ("name", refused_body)` may follow `roles`.
#[macro_export]
macro_rules! check {
    (
        id: $id:literal, run: $run:path, covers: [$($covers:ident),+ $(,)?], host: $host:ident,
        roles: [$($role:ident),* $(,)?],
        $(needs: [$($need:ident),* $(,)?],)?
        $(feature: ($feature:literal, $refused:path),)?
        budget_s: $budget:literal, slow: $slow:literal $(,)?
    ) => {
        $crate::check::Check {
            case: $crate::check::Case {
                id: $id,
                covers: &[$(&$crate::requirements::$covers),+],
                budget_s: $budget,
                slow: $slow,
                file: file!(),
                line: line!(),
            },
            run: |cx| Box::pin($run(cx)),
            host: $crate::check::Host::$host,
            roles: &[$($crate::role::Role::$role),*],
            needs: &[$($($crate::check::Need::$need),*)?],
            feature: $crate::check!(@feature $($feature, $refused)?),
        }
    };
    (@feature $name:literal, $refused:path) => { Some(($name, |cx| Box::pin($refused(cx)))) };
    (@feature) => { None };
}
