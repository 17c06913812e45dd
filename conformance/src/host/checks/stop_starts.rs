//! Stop checks of starts that are in progress or have failed.

use std::time::Duration;

use serde_json::json;

use super::image_support::{
    claim_becomes_running, idle_workload, push_slow, start_and_wait_for_failure, wait_for_pull,
};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::RepositoryBehavior;
use crate::wire::nats::Replies;
use crate::wire::response::{Headers, Reply, State};

/// Checks of the section `stop` that need a slow or a failing registry.
pub const CHECKS: &[Check] = &[
    check! {
        id: "stop/during-start", run: during_start,
        covers: [HOST_STOP_005, HOST_STOP_009, HOST_START_009], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 150, slow: false,
    },
    check! {
        id: "stop/canceled-start", run: canceled_start, covers: [HOST_STOP_005, HOST_SVC_016],
        host: Shared, roles: [ServiceRun], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/shared-pull", run: shared_pull, covers: [HOST_STOP_004, HOST_STOP_005],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/after-failure", run: after_failure, covers: [HOST_STOP_001, HOST_STOP_006],
        host: Shared, roles: [Idle, CoreModule, NoRun], needs: [Registry], budget_s: 150,
        slow: false,
    },
];

/// Time that the pull of a canceled start would have taken.
const PULL_TIME: Duration = Duration::from_secs(2);
/// Time for which the suite verifies that a canceled start does not become a workload.
const OBSERVATION_TIME: Duration = Duration::from_secs(4);

/// Sends a start whose image comes from the check's repository `name`, and waits until its pull has
/// begun. Returns the inbox of the start.
async fn begin_start(
    cx: &CheckContext,
    id: &str,
    name: &str,
    workload: &Workload<'_>,
) -> Result<Replies, Blocked> {
    let payload = workload.start_request(id).to_string();
    let replies = cx
        .request("workload.start", payload, Headers::none())
        .await?;
    wait_for_pull(cx, name).await?;
    Ok(replies)
}

/// Records the claim that a canceled start was answered, with its state at that time.
///
/// A host may have replied STARTING before the stop.
async fn claim_canceled_start_answered(cx: &CheckContext, mut replies: Replies) {
    let within = deadlines::STOP_FREES_ID.limit + cx.fixture().patience();
    let reply = match replies.next(within).await {
        Some(delivery) => crate::host::context::parse_reply(delivery, &replies),
        None => Reply::Timeout {
            waited: within,
            inbox: replies.inbox.clone(),
        },
    };
    let description = "the host replies to a start that a stop cancels";
    if let Some(response) = cx.claim(HOST_STOP_009).answered(description, &reply) {
        let acceptable = matches!(
            response.state,
            State::Stopping | State::NotFound | State::Starting | State::Running
        );
        let description =
            "the state in the reply is STOPPING or NOT_FOUND, or that before the stop";
        let held = acceptable && response.error_code.is_none();
        cx.claim(HOST_STOP_009)
            .about(&response)
            .holds(description, held, || response.to_string());
    }
}

/// A stop cancels a start in progress: the start is answered, and the id becomes NOT_FOUND and can
/// be started again, with a pull that hangs and with one that is slow.
async fn during_start(cx: &CheckContext) -> Flow {
    let hanging = cx.push_as("hanging", Role::Idle, RepositoryBehavior::HangOnManifest);
    let stalled = cx.push_as("stalled", Role::Idle, RepositoryBehavior::HangMidBlob);
    let slow = push_slow(cx, "slow", PULL_TIME);
    let good = cx.push_as("good", Role::Idle, RepositoryBehavior::Healthy);
    for (name, pushed) in [
        ("hanging", &hanging),
        ("stalled", &stalled),
        ("slow", &slow),
    ] {
        let id = cx.id(name);
        let start = begin_start(cx, &id, name, &idle_workload(cx, pushed)).await?;
        let stop = json!({ "workloadId": id }).to_string();
        let reply = cx.send("workload.stop", stop, Headers::none()).await?;
        let description = "the host replies to a stop during a start within 5 s";
        cx.claim(HOST_STOP_005).answered(description, &reply);
        let not_found = cx
            .wait_for_state(&id, State::NotFound, deadlines::STOP_FREES_ID)
            .await;
        let freed = cx.claim(HOST_STOP_005).met(not_found).is_some();
        claim_canceled_start_answered(cx, start).await;
        if !freed {
            continue;
        }
        for round in 1..=2 {
            let description = format!("start {round} of the id after its start was canceled");
            let workload = idle_workload(cx, &good);
            let running =
                claim_becomes_running(cx, HOST_START_009, &description, &id, &workload).await?;
            if !running {
                break;
            }
            let stays_running = cx.consistently(PULL_TIME / 2, &description, || async {
                cx.status(&id).await?.in_state(State::Running)
            });
            cx.claim(HOST_START_009).met(stays_running.await);
            cx.stop(&id).await?;
            cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
        }
    }
    Ok(())
}

/// A canceled start never becomes a workload, not even when its pull is done.
async fn canceled_start(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let behavior = RepositoryBehavior::Slow {
        before_manifest: PULL_TIME / 2,
        blob_bytes_per_second: 1 << 20,
    };
    let slow = cx.push_as("slow", Role::ServiceRun, behavior);
    let workload = cx.workload().service(&slow).beacon(&beacon);
    let start = begin_start(cx, &id, "slow", &workload).await?;
    cx.stop(&id).await?;
    let not_found = cx
        .wait_for_state(&id, State::NotFound, deadlines::STOP_FREES_ID)
        .await;
    if cx.claim(HOST_STOP_005).met(not_found).is_some() {
        // On a host that is slow to stop, the pull ends and the guest runs before the stop.
        let before = beacon.count("up");
        let gone = cx.consistently(
            OBSERVATION_TIME,
            "the id stays NOT_FOUND and no guest runs",
            || async {
                match beacon.count("up") - before {
                    0 => cx.status(&id).await?.in_state(State::NotFound).map(|_| ()),
                    runs => Err(format!("{runs} runs of the canceled workload")),
                }
            },
        );
        cx.claim(HOST_STOP_005).met(gone.await);
    }
    drop(start);
    // The service does run if its start is not canceled, so the claims above have evidence.
    let (id, beacon) = (cx.id("b"), cx.beacon());
    let workload = cx.workload().service(&slow).beacon(&beacon);
    cx.start_and_wait(&id, &workload).await?;
    let up = beacon.wait("up", 1, deadlines::DEFAULT_WAIT.limit).await;
    cx.claim(HOST_SVC_016)
        .holds("the service runs", up.is_ok(), || "no beacon");
    Ok(())
}

/// The stop of one start does not affect another start that waits for the same image.
async fn shared_pull(cx: &CheckContext) -> Flow {
    for position in 0..2 {
        let name = format!("slow-{position}");
        let slow = push_slow(cx, &name, PULL_TIME);
        let ids = [
            cx.id(&format!("first-{name}")),
            cx.id(&format!("second-{name}")),
        ];
        let workload = idle_workload(cx, &slow);
        let mut starts = Vec::new();
        for id in &ids {
            starts.push(begin_start(cx, id, &name, &workload).await?);
        }
        let [first, second] = &ids;
        let (stopped, other) = if position == 0 {
            (first, second)
        } else {
            (second, first)
        };
        // The first start began the pull, and gRPC calls have no order: the second may be on its
        // way. A slow host may be past STARTING.
        let _known = cx
            .wait_for_state(stopped, State::Starting, deadlines::REPLY)
            .await;
        cx.stop(stopped).await?;
        let not_found = cx
            .wait_for_state(stopped, State::NotFound, deadlines::STOP_FREES_ID)
            .await;
        cx.claim(HOST_STOP_005).met(not_found);
        let running = cx.wait_running(other, deadlines::DEFAULT_WAIT).await;
        cx.claim(HOST_STOP_004).met(running);
    }
    Ok(())
}

/// One stop frees an id in ERROR, whatever prevented its start.
async fn after_failure(cx: &CheckContext) -> Flow {
    let push = |name: &str, behavior| cx.push_as(name, Role::Idle, behavior).reference;
    let images = [
        ("missing", push("missing", RepositoryBehavior::NotFound)),
        ("text", push("text", RepositoryBehavior::TextInsteadOfJson)),
        (
            "closed",
            push("closed", RepositoryBehavior::CloseConnection),
        ),
        (
            "truncated",
            push("truncated", RepositoryBehavior::TruncateBlob),
        ),
        ("module", cx.push(Role::CoreModule).reference),
        ("malformed", "Not A Reference/UPPER:1".to_owned()),
        ("empty", String::new()),
        ("scheme", "http://127.0.0.1:1/nothing:1".to_owned()),
        ("refused", "127.0.0.1:1/nothing/here:1".to_owned()),
    ];
    let mut workloads: Vec<_> = images
        .into_iter()
        .map(|(name, image)| (name, idle_workload(cx, image)))
        .collect();
    workloads.push(("no-run", cx.workload().service(Role::NoRun)));
    for (name, workload) in workloads {
        let id = cx.id(name);
        start_and_wait_for_failure(cx, &id, &workload).await?;
        let stop = cx.stop(&id).await?;
        cx.claim(HOST_STOP_001).about(&stop).one_of(
            &format!("state of the reply to the stop of a failed start ({name})"),
            stop.state.clone(),
            &[State::Stopping, State::NotFound],
        );
        cx.claim(HOST_STOP_006).met(cx.wait_not_found(&id).await);
    }
    Ok(())
}
