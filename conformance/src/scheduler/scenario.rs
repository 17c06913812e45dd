//! How a check of schedulers is declared: an entry of a const table, as on the host side.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use super::context::ScenarioContext;
use super::timings::Timings;
use crate::check::isolation::SchedulerIsolation;
use crate::check::meta::CheckMeta;
use crate::check::outcome::Flow;

/// The future of a scenario's body.
pub type Running<'a> = Pin<Box<dyn Future<Output = Flow> + Send + 'a>>;

/// A scenario's body behind a plain function pointer.
pub type Body = for<'a> fn(&'a ScenarioContext) -> Running<'a>;

/// Equipment that a scenario cannot do without; where it is missing it is `not-testable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The suite sits between the scheduler and the broker.
    Tap,
    /// The suite launched the scheduler.
    Process,
    /// The intake tells of the objects that the scheduler makes, too.
    Family,
    /// An API server.
    Kubernetes,
}

/// An entry of a table. Written with [`scenario!`](crate::scenario!).
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it has in common with the checks of hosts.
    pub meta: CheckMeta,
    /// The code.
    pub run: Body,
    /// On which bus.
    pub isolation: SchedulerIsolation,
    /// The equipment that it needs.
    pub needs: &'static [Need],
    /// The declared time that it sits out, which makes it a slow one where that time is long.
    pub waits: fn(&Timings) -> Duration,
    /// A feature that a target may declare absent; nothing can be said about it then.
    pub feature: Option<&'static str>,
}

/// Beyond this a scenario is slow.
const LONG: Duration = Duration::from_secs(20);

impl Scenario {
    /// Whether it takes long with these times.
    pub fn is_long(&self, timings: &Timings) -> bool {
        (self.waits)(timings) > LONG
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
///     scenario! { id: "place/selector", run: selector, covers: [SCHED_PLACE_001],
///                 isolation: Shared, budget_s: 30 },
/// ];
/// ```
/// `needs: [Tap, ..]`, `waits: |timings| timings.silence`, `feature: "name"` and `slow: true` may
/// follow the place, in this order.
macro_rules! scenario {
    (
        id: $id:literal, run: $run:path, covers: [$($covers:ident),+ $(,)?], isolation: $isolation:ident,
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
