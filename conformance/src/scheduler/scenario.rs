//! Scenario: a check of schedulers, declared as an entry of a const table like a check of hosts.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use super::context::ScenarioContext;
use super::timings::Timings;
use crate::check::isolation::SchedulerIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Flow;

/// Future of a scenario's body.
pub type BodyFuture<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

/// Body of a scenario, as a plain function pointer.
pub type Body = for<'a> fn(&'a ScenarioContext) -> BodyFuture<'a>;

/// Capability of the target that a scenario requires. Without it, the scenario is `not-testable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A tap between the scheduler and the broker.
    Tap,
    /// A scheduler process that the suite has launched.
    Process,
    /// An intake that also reports the objects that the scheduler creates.
    Children,
    /// A Kubernetes API server.
    Kubernetes,
    /// Manifests in a directory.
    Directory,
}

/// Entry of a table, declared with [`scenario!`](crate::scenario!).
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Declaration that scenarios share with checks of hosts.
    pub meta: CheckMeta,
    /// Body of the scenario.
    pub run: Body,
    /// Bus and scheduler on which the scenario runs.
    pub isolation: SchedulerIsolation,
    /// Required capabilities of the target.
    pub needs: &'static [Need],
    /// Part of the scenario's duration that depends on a timing of the target. If this part is
    /// long, the scenario is slow.
    pub waits: fn(&Timings) -> Duration,
    /// Feature that a target may declare absent, which makes the scenario `not-testable`.
    pub feature: Option<&'static str>,
}

/// Feature of a scheduler that shows workloads as children of replica sets.
pub const CHILDREN: &str = "children";

/// Waiting time above which a scenario is slow.
const SLOW_ABOVE: Duration = Duration::from_secs(20);

impl Scenario {
    /// Returns whether these timings make the scenario slow.
    pub fn is_slow_with(&self, timings: &Timings) -> bool {
        (self.waits)(timings) > SLOW_ABOVE
    }
}

impl Deref for Scenario {
    type Target = CheckMeta;

    fn deref(&self) -> &CheckMeta {
        &self.meta
    }
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.meta.fmt(f)
    }
}

/// Declares a [`Scenario`](crate::scheduler::scenario::Scenario) in a const table.
///
/// ```text
/// pub const SCENARIOS: &[Scenario] = &[
///     scenario! { id: "placement/selector", run: selector, covers: [SCHED_PLACE_001],
///                 isolation: Shared, budget_s: 30 },
/// ];
/// ```
/// `needs: [Tap, ..]`, `waits: |timings| timings.silence`, `feature: "name"` and `slow: true` may
/// follow `isolation`, in this order.
macro_rules! scenario {
    (
        id: $id:literal, run: $run:path, covers: [$($covers:ident),+ $(,)?],
        isolation: $isolation:ident,
        $(needs: [$($need:ident),* $(,)?],)?
        $(waits: $waits:expr,)?
        $(feature: $feature:literal,)?
        $(slow: $slow:literal,)?
        budget_s: $budget:literal $(,)?
    ) => {
        $crate::scheduler::scenario::Scenario {
            meta: $crate::check::meta::CheckMeta {
                id: $id,
                covers: &[$(&$crate::spec::requirements::$covers),+],
                budget_s: $budget,
                slow: false $(|| $slow)?,
                file: file!(),
                line: line!(),
            },
            run: |cx| Box::pin($run(cx)),
            isolation: $crate::check::isolation::SchedulerIsolation::$isolation,
            needs: &[$($($crate::scheduler::scenario::Need::$need),*)?],
            waits: scenario!(@waits $($waits)?),
            feature: scenario!(@feature $($feature)?),
        }
    };
    (@waits $waits:expr) => { $waits };
    (@waits) => { |_| std::time::Duration::ZERO };
    (@feature $name:literal) => { Some($name) };
    (@feature) => { None };
}

pub(crate) use scenario;
