//! Resilience: outages of the broker, lost and doubled messages, load.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::json;

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::tap::{Action, Direction, Kind, Mark, OutagePlan, Rule, Tap};
use crate::wire::response::{Headers, State};

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resil/outage", run: outage,
        covers: [HOST_RESIL_001, HOST_RESIL_002, HOST_RESIL_003, HOST_RESIL_004], host: Own,
        roles: [ServiceRun], needs: [Tap, Process, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resil/broker-comes-late", run: broker_comes_late, covers: [HOST_RESIL_005],
        host: Shared, roles: [], needs: [Process], budget_s: 60, slow: false,
    },
    check! {
        id: "resil/delivered-twice", run: delivered_twice, covers: [HOST_RESIL_006],
        host: Own, roles: [], needs: [Tap], budget_s: 60, slow: false,
    },
    check! {
        id: "resil/lost-reply", run: lost_reply, covers: [HOST_RESIL_007], host: Own,
        roles: [ServiceRun], needs: [Tap, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resil/load", run: load, covers: [HOST_RESIL_008], host: Own, roles: [],
        budget_s: 90, slow: false,
    },
    check! {
        id: "resil/long-outage", run: long_outage, covers: [HOST_RESIL_009, HOST_RESIL_004],
        host: Own, roles: [], needs: [Tap, Process], budget_s: 300, slow: true,
    },
    check! {
        id: "resil/half-open", run: half_open, covers: [HOST_RESIL_010], host: Own, roles: [],
        needs: [Tap], budget_s: 300, slow: true,
    },
];

/// How long the short outage lasts: long enough to miss a beat of a quick host.
const OUTAGE: Duration = Duration::from_secs(6);
/// How much later than the host its broker comes.
const BROKER_LATE: Duration = Duration::from_secs(4);
/// How long the long one lasts.
const LONG_OUTAGE: Duration = Duration::from_secs(180);

/// Takes the broker away from the host for that long; returns when it is back, and the mark of that.
async fn take_away(
    cx: &CheckContext,
    tap: &Tap,
    time: Duration,
) -> Result<(Mark, Instant), Blocked> {
    let outage = tap.cut(OutagePlan::Refuse).await;
    let away = cx.consistently(time, "the broker is away", || async {
        match tap.connections() {
            0 => Ok(()),
            n => Err(format!("{n} connections")),
        }
    });
    away.await
        .result
        .map_err(|missed| Blocked::harness("the outage", missed.actual))?;
    let mark = tap.mark();
    outage.restore().await;
    Ok((mark, Instant::now()))
}

/// Claims that `status` is answered again in time.
async fn back_again(cx: &CheckContext, requirement: Requirement) -> bool {
    let probe = cx.id("never-started");
    let payload = json!({ "workloadId": probe }).to_string();
    let back = cx.eventually(deadlines::RECOVERY, "status is answered again", || async {
        let reply = cx
            .send("workload.status", payload.clone(), Headers::none())
            .await?;
        reply.answer().map(|_| ()).ok_or_else(|| reply.to_string())
    });
    cx.claim(requirement).met(back.await).is_some()
}

/// When the host published heartbeats since the mark.
fn heartbeats_since(cx: &CheckContext, tap: &Tap, mark: Mark) -> Vec<Instant> {
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let frames = tap.frames_since(mark);
    let heartbeats = frames.iter().filter(|frame| {
        frame.kind == Kind::Publish && frame.way == Direction::FromTarget && frame.is_on(&subject)
    });
    heartbeats.map(|frame| frame.at).collect()
}

/// When the host opened its new connection and subscribed.
fn reconnected(tap: &Tap, mark: Mark) -> Option<Instant> {
    let frames = tap.frames_since(mark);
    frames
        .iter()
        .find(|frame| frame.kind == Kind::Connect)
        .map(|frame| frame.at)
}

/// Claims that the outage is worth one heartbeat: with the ordinary one, two at most in a second.
fn judge_burst(cx: &CheckContext, tap: &Tap, mark: Mark) {
    let beats = heartbeats_since(cx, tap, mark);
    let first_second = beats.first().map_or(0, |first| {
        beats
            .iter()
            .filter(|at| at.saturating_duration_since(*first) < Duration::from_secs(1))
            .count()
    });
    cx.claim(HOST_RESIL_004).holds(
        "one heartbeat for the outage, beside the ordinary one",
        first_second <= 2,
        || format!("{first_second} heartbeats in a second"),
    );
}

async fn outage(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    cx.started(
        &id,
        &cx.workload().service(Role::ServiceRun).beacon(&beacon),
    )
    .await?;
    let up = beacon.wait("up", 1, deadlines::LOOK.limit).await;
    up.map_err(|silence| cx.blocked(HOST_SVC_016, "a service that runs", &silence))?;
    let (tap, process) = (cx.tap()?, cx.process()?);

    let (mark, restored) = take_away(cx, tap, OUTAGE).await?;
    back_again(cx, HOST_RESIL_001).await;
    cx.claim(HOST_RESIL_001)
        .holds("the process goes on", !process.has_exited(), || {
            "it exited".to_owned()
        });

    let heard = cx.eventually(
        deadlines::RECOVERY,
        "a heartbeat after the broker is back",
        || async {
            heartbeats_since(cx, tap, mark)
                .first()
                .copied()
                .ok_or_else(|| "none".to_owned())
        },
    );
    if let Some(heard) = cx.claim(HOST_RESIL_002).met(heard.await) {
        let after = heard.saturating_duration_since(reconnected(tap, mark).unwrap_or(restored));
        let soon = after <= deadlines::HEARTBEAT_AFTER_RECONNECT.limit + cx.fixture().patience();
        cx.claim(HOST_RESIL_002)
            .holds("a heartbeat within 2 s of reconnecting", soon, || {
                format!("after {after:?}")
            });
    }
    let settled = cx.consistently(
        Duration::from_millis(1200),
        "the workload is RUNNING",
        || async { cx.status(&id).await?.in_state(State::Running) },
    );
    cx.claim(HOST_RESIL_003).met(settled.await);
    cx.claim(HOST_RESIL_003)
        .is("runs of the service", beacon.count("up"), 1);
    judge_burst(cx, tap, mark);
    Ok(())
}

/// A host that is launched before its broker finds it when it comes.
async fn broker_comes_late(cx: &CheckContext) -> Flow {
    let launched = cx.launch_before_broker(BROKER_LATE).await?;
    let what = "a host launched 4 s before its broker shows itself when the broker is there";
    cx.claim(HOST_RESIL_005)
        .holds(what, launched.is_ok(), || match &launched {
            Ok(_) => String::new(),
            Err(error) => crate::check::outcome::chain(error),
        });
    Ok(())
}

/// The broker delivers a start twice: one copy wins, the other is told that the id is taken.
async fn delivered_twice(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let start = cx.workload().start_request(&id).to_string();
    let rule = Rule::on(
        crate::wire::nats::command_subject("*", "workload.start"),
        Action::Duplicate,
    )
    .to_target();
    let _twice = cx.tap()?.rule(rule.containing(&id).times(1));
    let mut replies = cx.request("workload.start", start, Headers::none()).await?;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let Some(delivery) = replies
            .next(deadlines::ANSWER.limit + cx.fixture().patience())
            .await
        else {
            break;
        };
        answers.extend(
            crate::host::context::read(delivery, &replies)
                .answer()
                .cloned(),
        );
    }
    cx.claim(HOST_RESIL_006).is(
        "answers to a start that was delivered twice",
        answers.len(),
        2,
    );
    let told = answers
        .iter()
        .filter(|answer| answer.error_code == Some(409))
        .count();
    cx.claim(HOST_RESIL_006)
        .is("copies that are refused with code 409", told, 1);
    cx.claim(HOST_RESIL_006)
        .met(cx.running(&id, deadlines::LOOK).await);
    Ok(())
}

/// The reply to a start is lost; the scheduler tries again.
async fn lost_reply(cx: &CheckContext) -> Flow {
    let (id, beacon) = (cx.id("a"), cx.beacon());
    let workload = cx.workload().service(Role::ServiceRun).beacon(&beacon);
    let rule = Rule::replies_to(
        crate::wire::nats::command_subject("*", "workload.start"),
        Action::Drop,
    )
    .from_target();
    let _lost = cx.tap()?.rule(rule.containing(&id).times(1));
    let payload = workload.start_request(&id).to_string();
    let first = cx
        .send_within(
            "workload.start",
            payload,
            Headers::none(),
            Duration::from_millis(500),
        )
        .await?;
    if let Some(answer) = first.answer() {
        return Err(Blocked::harness("the reply was not lost", answer));
    }
    cx.running(&id, deadlines::LOOK)
        .await
        .or_blocked(cx, HOST_START_001)?;
    let up = beacon.wait("up", 1, deadlines::LOOK.limit).await;
    up.map_err(|silence| cx.blocked(HOST_SVC_016, "a service that runs", &silence))?;

    let retry = cx.start(&id, &workload).await?;
    let right = retry.state == State::Error && retry.error_code == Some(409);
    let what = "the retry is refused: ERROR with code 409";
    cx.claim(HOST_RESIL_007)
        .about(&retry)
        .holds(what, right, || retry.to_string());
    let status = cx.status(&id).await?;
    cx.claim(HOST_RESIL_007)
        .is("status afterwards", status.state, State::Running);
    let once = cx.consistently(Duration::from_secs(1), "the service ran once", || async {
        match beacon.count("up") {
            1 => Ok(()),
            runs => Err(format!("{runs} runs")),
        }
    });
    cx.claim(HOST_RESIL_007).met(once.await);
    Ok(())
}

/// Two hundred requests in one breath.
async fn load(cx: &CheckContext) -> Flow {
    let ids: Vec<String> = (0..200).map(|n| cx.id(&format!("never-{n}"))).collect();
    let requests = ids.iter().map(|id| {
        cx.send(
            "workload.status",
            json!({ "workloadId": id }).to_string(),
            Headers::none(),
        )
    });
    let replies = try_join_all(requests).await?;
    let answered = replies
        .iter()
        .filter(|reply| reply.answer().is_some())
        .count();
    cx.claim(HOST_RESIL_008)
        .is("answers within 5 s to 200 requests at once", answered, 200);
    let right = replies
        .iter()
        .zip(&ids)
        .filter(|(reply, id)| reply.answer().is_some_and(|a| a.id == **id))
        .count();
    cx.claim(HOST_RESIL_008)
        .is("answers with the id that was asked for", right, 200);
    Ok(())
}

async fn long_outage(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    cx.started(&id, &cx.workload()).await?;
    let (tap, process) = (cx.tap()?, cx.process()?);
    let (mark, _) = take_away(cx, tap, LONG_OUTAGE).await?;
    back_again(cx, HOST_RESIL_009).await;
    cx.claim(HOST_RESIL_009)
        .holds("the process goes on", !process.has_exited(), || {
            "it exited".to_owned()
        });
    if let Ok(status) = cx.status(&id).await {
        cx.claim(HOST_RESIL_009)
            .is("the workload goes on", status.state, State::Running);
    }
    let heard = cx.eventually(
        deadlines::RECOVERY,
        "a heartbeat after the broker is back",
        || async {
            heartbeats_since(cx, tap, mark)
                .first()
                .map(|_| ())
                .ok_or_else(|| "none".to_owned())
        },
    );
    cx.claim(HOST_RESIL_009).met(heard.await);
    judge_burst(cx, tap, mark);
    Ok(())
}

/// The connection stays open and nothing passes: the host must find out by itself.
async fn half_open(cx: &CheckContext) -> Flow {
    let tap = cx.tap()?;
    cx.status(&cx.id("never-started")).await?;
    let mark = tap.mark();
    let frozen = tap.freeze();
    let deadline =
        tokio::time::Instant::now() + deadlines::DEAD_CONNECTION.limit + cx.fixture().patience();
    let noticed = tap
        .wait_for(
            mark,
            |frame| matches!(frame.kind, Kind::Opened | Kind::Closed),
            deadline,
        )
        .await;
    cx.claim(HOST_RESIL_010).holds(
        "the host gives a dead connection up within 3 minutes",
        noticed.is_ok(),
        || "it still holds on to it".to_owned(),
    );
    drop(frozen);
    back_again(cx, HOST_RESIL_010).await;
    Ok(())
}
