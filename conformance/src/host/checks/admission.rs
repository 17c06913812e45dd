//! Starts of workloads that a host must refuse, or accept, for checks that sweep many of them.

use futures_util::future::try_join_all;

use crate::check::outcome::{Blocked, Flow};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::Requirement;
use crate::wire::response::{Response, State};

/// Maximum number of concurrent starts of a sweep.
pub(super) const CONCURRENT_STARTS: usize = 8;

/// A workload that a host must refuse.
pub(super) struct Refused<'c> {
    description: String,
    workload: Workload<'c>,
    mentioned: String,
}

impl<'c> Refused<'c> {
    /// Creates a case; `description` completes "… is refused".
    pub(super) fn new(description: impl Into<String>, workload: Workload<'c>) -> Refused<'c> {
        Refused {
            description: description.into(),
            workload,
            mentioned: String::new(),
        }
    }

    /// Sets a text that the message of the refusal must contain.
    pub(super) fn mentioning(mut self, text: &str) -> Refused<'c> {
        text.clone_into(&mut self.mentioned);
        self
    }
}

/// Records the claims that each start ends in ERROR, with the message that its case demands. A
/// check may call it once.
pub(super) async fn claim_refused(
    cx: &CheckContext,
    requirement: Requirement,
    cases: Vec<Refused<'_>>,
) -> Flow {
    let mut outcomes: Vec<Response> = Vec::new();
    for (group, cases) in cases.chunks(CONCURRENT_STARTS).enumerate() {
        let starts: Vec<_> = (cases.iter().enumerate())
            .map(|(index, case)| outcome(cx, format!("refused-{group}-{index}"), &case.workload))
            .collect();
        outcomes.extend(try_join_all(starts).await?);
    }
    for (case, response) in cases.iter().zip(&outcomes) {
        let failed = response.state == State::Error;
        let claim = format!("{} is refused with ERROR", case.description);
        cx.claim(requirement)
            .about(response)
            .holds(&claim, failed, || response.to_string());
        if failed && !case.mentioned.is_empty() {
            let named = response.message.contains(&case.mentioned);
            let claim = format!(
                "the refusal of {} names `{}`",
                case.description, case.mentioned
            );
            cx.claim(requirement)
                .about(response)
                .holds(&claim, named, || response.to_string());
        }
    }
    Ok(())
}

/// Starts a workload, and records the claim that it becomes RUNNING. Returns whether it does.
pub(super) async fn claim_accepted(
    cx: &CheckContext,
    requirement: Requirement,
    description: &str,
    id: &str,
    workload: &Workload<'_>,
) -> Result<bool, Blocked> {
    let start = cx.start(id, workload).await?;
    let accepted = matches!(start.state, State::Running | State::Starting);
    let claim = format!("{description} is accepted");
    let claimed = cx.claim(requirement).about(&start);
    if !claimed.holds(&claim, accepted, || start.to_string()) {
        return Ok(false);
    }
    let running = cx.wait_running(id, deadlines::DEFAULT_WAIT).await;
    Ok(cx.claim(requirement).met(running).is_some())
}

/// Starts a workload and returns the response with the state in which the start ends.
async fn outcome(
    cx: &CheckContext,
    label: String,
    workload: &Workload<'_>,
) -> Result<Response, Blocked> {
    let id = cx.id(&label);
    let start = cx.start(&id, workload).await?;
    if start.state != State::Starting {
        return Ok(start);
    }
    let waited = cx
        .wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
        .await;
    match waited.result {
        Ok(response) => Ok(response),
        Err(_) => cx.status(&id).await,
    }
}
