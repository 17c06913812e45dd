//! Checks of starts that have failed: what the host reports, and what the id can be used for.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::image_support::{
    claim_becomes_running, claim_start_fails, idle_workload, push_slow, start_and_wait_for_failure,
};
use crate::check::outcome::Flow;
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::RepositoryBehavior;
use crate::wire::response::{Response, State};

/// Checks of the section `start` about failed starts.
pub const CHECKS: &[Check] = &[
    check! {
        id: "start/failure-messages", run: failure_messages,
        covers: [HOST_START_008, HOST_IMG_003], host: Shared, roles: [Idle], needs: [Registry],
        waits_s: 30, budget_s: 150, slow: false,
    },
    check! {
        id: "start/failure-reported", run: failure_reported, covers: [HOST_START_016],
        host: Shared, roles: [Idle], needs: [Registry], waits_s: 11, budget_s: 90, slow: false,
    },
    check! {
        id: "start/failure-named", run: failure_named, covers: [HOST_START_018], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/many-failures", run: many_failures, covers: [HOST_START_001, HOST_START_016],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 240, slow: false,
    },
    check! {
        id: "start/retry-after-failure", run: retry_after_failure,
        covers: [HOST_START_016, HOST_START_017], host: Shared, roles: [Idle], needs: [Registry],
        budget_s: 120, slow: false,
    },
    check! {
        id: "start/simultaneous-retries", run: simultaneous_retries,
        covers: [HOST_START_003, HOST_START_017], host: Shared, roles: [Idle], needs: [Registry],
        budget_s: 120, slow: false,
    },
];

/// A reference that no host can parse, so that its start fails without a pull.
const MALFORMED: &str = "Not A Reference/UPPER:1";
/// Number of failed starts that a host has to remember.
const REMEMBERED_FAILURES: usize = 1000;
/// Number of concurrent requests while many ids are created and verified.
const CONCURRENT_REQUESTS: usize = 50;
/// Time for which the outcome of a failed start must stay.
const OBSERVATION_TIME: Duration = Duration::from_secs(12);

/// The ERROR of a start has a message, for every cause of the failure.
async fn failure_messages(cx: &CheckContext) -> Flow {
    let behaviors = [
        RepositoryBehavior::NotFound,
        RepositoryBehavior::Unauthorized,
        RepositoryBehavior::ServerError,
        RepositoryBehavior::CloseConnection,
        RepositoryBehavior::TextInsteadOfJson,
        RepositoryBehavior::TruncateBlob,
        RepositoryBehavior::HangOnManifest,
        RepositoryBehavior::HangMidBlob,
    ];
    let mut images = vec![(
        "a layer that does not match its digest".to_owned(),
        cx.push_false("false", Role::Idle),
    )];
    for (number, behavior) in behaviors.into_iter().enumerate() {
        let description = format!("an image whose registry has the fault {behavior:?}");
        let pushed = cx.push_as(&format!("bad-{number}"), Role::Idle, behavior);
        images.push((description, pushed));
    }
    let starts = images
        .into_iter()
        .enumerate()
        .map(|(number, (description, pushed))| async move {
            let (id, workload) = (cx.id(&number.to_string()), idle_workload(cx, &pushed));
            let failed = claim_start_fails(cx, HOST_IMG_003, &description, &id, &workload).await?;
            if let Some(failed) = failed {
                claim_message(cx, &description, &failed);
                claim_message(cx, &description, &cx.status(&id).await?);
            }
            Ok(())
        });
    for start in join_all(starts).await {
        start?;
    }
    Ok(())
}

/// Records the claim that a response with ERROR has a message.
fn claim_message(cx: &CheckContext, failure: &str, response: &Response) {
    let has_message = !response.message.trim().is_empty();
    let description = format!("the ERROR after {failure} has a message");
    cx.claim(HOST_START_008)
        .about(response)
        .holds(&description, has_message, || response.to_string());
}

/// After a failed start, status stays ERROR with its message, also if the start expected no reply.
async fn failure_reported(cx: &CheckContext) -> Flow {
    let missing = cx.push_as("idle", Role::Idle, RepositoryBehavior::NotFound);
    let workloads = [
        ("answered", idle_workload(cx, &missing)),
        ("malformed", idle_workload(cx, MALFORMED)),
    ];
    let mut failures = Vec::new();
    for (name, workload) in &workloads {
        let id = cx.id(name);
        let failure = start_and_wait_for_failure(cx, &id, workload).await?;
        failures.push((id, failure.message));

        let id = cx.id(&format!("{name}-without-reply"));
        let payload = workload.start_request(&id).to_string();
        cx.publish_no_reply("workload.start", payload).await?;
        let failed = cx
            .wait_for_state(&id, State::Error, deadlines::PULL_TIMEOUT)
            .await;
        if let Some(failed) = cx.claim(HOST_START_016).met(failed) {
            failures.push((id, failed.message));
        }
    }
    let unchanged = cx.consistently(
        OBSERVATION_TIME,
        "the state stays ERROR, with the same message",
        || async {
            for (id, message) in &failures {
                let status = cx.status(id).await?;
                // A code means that the request was refused, and this one is answered.
                let has_code = status.error_code.is_some();
                if status.message != *message || message.trim().is_empty() || has_code {
                    return Err(format!("{status}, after the message {message:?}"));
                }
                status.in_state(State::Error)?;
            }
            Ok(())
        },
    );
    cx.claim(HOST_START_016).met(unchanged.await);
    Ok(())
}

/// The message of a failed start names the component that failed and its image.
async fn failure_named(cx: &CheckContext) -> Flow {
    let good = cx.push_as("good", Role::Idle, RepositoryBehavior::Healthy);
    let missing = cx.push_as("missing", Role::Idle, RepositoryBehavior::NotFound);
    let unreadable = cx.push_as("text", Role::Idle, RepositoryBehavior::TextInsteadOfJson);
    for bad in [missing.reference.as_str(), &unreadable.reference] {
        let workloads = [
            ("c0", idle_workload(cx, bad)),
            ("c0", idle_workload(cx, bad).component(&good)),
            ("c1", idle_workload(cx, &good).component(bad)),
            (
                "c2",
                idle_workload(cx, &good).component(&good).component(bad),
            ),
            ("", idle_workload(cx, &good).service(bad)),
        ];
        for (number, (component, workload)) in workloads.iter().enumerate() {
            let id = cx.id(&format!(
                "{number}-{}",
                usize::from(bad == missing.reference)
            ));
            let failure = start_and_wait_for_failure(cx, &id, workload).await?;
            let named = failure.message.contains(component) && failure.message.contains(bad);
            let description = match *component {
                "" => format!("the message names the image `{bad}` of the service"),
                name => format!("the message names the component `{name}` and its image `{bad}`"),
            };
            cx.claim(HOST_START_018)
                .about(&failure)
                .holds(&description, named, || {
                    format!("message {:?}", failure.message)
                });
        }
    }
    Ok(())
}

/// The host remembers a thousand failed starts, and then starts another workload.
async fn many_failures(cx: &CheckContext) -> Flow {
    let missing = cx.push_as("missing", Role::Idle, RepositoryBehavior::NotFound);
    let ids: Vec<String> = (0..REMEMBERED_FAILURES)
        .map(|number| cx.id(&format!("failed-{number}")))
        .collect();
    let workloads = [idle_workload(cx, &missing), idle_workload(cx, MALFORMED)];
    let [pulled, malformed] = &workloads;
    let mut statuses = Vec::new();
    for chunk in ids.chunks(CONCURRENT_REQUESTS) {
        // A pull takes longer, so only some of the starts fail in one.
        let starts = chunk.iter().enumerate().map(|(number, id)| {
            let workload = if number == 0 { pulled } else { malformed };
            start_and_wait_for_failure(cx, id, workload)
        });
        try_join_all(starts).await?;
    }
    for chunk in ids.chunks(CONCURRENT_REQUESTS) {
        statuses.extend(try_join_all(chunk.iter().map(|id| cx.status(id))).await?);
    }
    let remembered = statuses
        .iter()
        .filter(|status| status.state == State::Error && !status.message.trim().is_empty())
        .count();
    cx.claim(HOST_START_016).is(
        "number of ids in ERROR, with a message, after 1000 failed starts",
        remembered,
        REMEMBERED_FAILURES,
    );
    let good = cx.push_as("good", Role::Idle, RepositoryBehavior::Healthy);
    claim_becomes_running(
        cx,
        HOST_START_001,
        "a start after 1000 failed starts",
        &cx.id("good"),
        &idle_workload(cx, &good),
    )
    .await?;
    Ok(())
}

/// Records the claim that a new start of an id in ERROR fails for the reason of its own content.
async fn claim_fails_again(
    cx: &CheckContext,
    id: &str,
    workload: &Workload<'_>,
    images: [&str; 2],
) -> Flow {
    let [image, earlier] = images;
    let description = "a new start of an id in ERROR that fails";
    let failed = claim_start_fails(cx, HOST_START_017, description, id, workload).await?;
    if failed.is_none() {
        return Ok(());
    }
    let status = cx.status(id).await?;
    let is_stale = status.message.contains(earlier) && !status.message.contains(image);
    let has_reason = status.state == State::Error && !is_stale;
    let description = "status reports the reason of the latest failure";
    cx.claim(HOST_START_016)
        .about(&status)
        .holds(description, has_reason, || status.to_string());
    Ok(())
}

/// An id whose start failed can be started again without a stop, as often as necessary and with
/// other content.
async fn retry_after_failure(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let images = ["one", "two", "three"].map(|name| {
        let pushed = cx.push_as(name, Role::Idle, RepositoryBehavior::NotFound);
        pushed.reference
    });
    let [one, two, three] = &images;
    start_and_wait_for_failure(cx, &id, &idle_workload(cx, one.as_str())).await?;
    for [image, earlier] in [[one, three], [two, one], [three, two], [one, three]] {
        let workload = idle_workload(cx, image.as_str());
        claim_fails_again(cx, &id, &workload, [image, earlier]).await?;
    }
    let other = cx.push_as("good", Role::Idle, RepositoryBehavior::Healthy);
    let description = "a start of an id in ERROR with another image";
    let workload = idle_workload(cx, &other);
    claim_becomes_running(cx, HOST_START_017, description, &id, &workload).await?;

    let id = cx.id("b");
    let workload = idle_workload(cx, one.as_str());
    start_and_wait_for_failure(cx, &id, &workload).await?;
    cx.registry()
        .set_behavior(&cx.repository("one"), RepositoryBehavior::Healthy);
    let description = "a start of an id in ERROR after its image was pushed";
    claim_becomes_running(cx, HOST_START_017, description, &id, &workload).await?;
    Ok(())
}

/// Of twenty concurrent starts of an id in ERROR, one is accepted.
async fn simultaneous_retries(cx: &CheckContext) -> Flow {
    let missing = cx.push_as("missing", Role::Idle, RepositoryBehavior::NotFound);
    for round in 0..2 {
        let id = cx.id(&round.to_string());
        start_and_wait_for_failure(cx, &id, &idle_workload(cx, &missing)).await?;
        // The start takes a moment, so that the other starts arrive while it is in progress.
        let slow = push_slow(cx, &format!("slow-{round}"), Duration::from_millis(500));
        let workload = idle_workload(cx, &slow);
        let starts = (0..20).map(|_| cx.start(&id, &workload));
        let responses: Vec<Response> = try_join_all(starts).await?;
        let with_code = |code| {
            let matching = responses
                .iter()
                .filter(|response| response.error_code == code);
            matching.count()
        };
        cx.claim(HOST_START_003).is(
            "number of accepted starts of 20 concurrent starts of an id in ERROR",
            with_code(None),
            1,
        );
        cx.claim(HOST_START_003).is(
            "number of starts that are refused with code 409",
            with_code(Some(409)),
            19,
        );
        cx.claim(HOST_START_017)
            .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    }
    Ok(())
}
