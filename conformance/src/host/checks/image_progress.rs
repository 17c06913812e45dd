//! Starts that are at work or have failed: what a host says and does meanwhile and afterwards.

use std::time::{Duration, Instant};

use super::image_support::{idle, slow, succeeds};
use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::CheckContext;
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::testbed::registry::{Behaviour, Pushed};
use crate::wire::response::{Response, State};

/// Of the sections `img`, `start` and `stop`, what needs a slow or a failing registry to show.
pub const CHECKS: &[Check] = &[
    check! {
        id: "img/others-go-on", run: others_go_on, covers: [HOST_IMG_020], host: Own,
        roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/answered-in-time", run: answered_in_time,
        covers: [HOST_START_011, HOST_START_012], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "start/starting", run: starting, covers: [HOST_START_013], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/others-go-on", run: others_during_start, covers: [HOST_START_014],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "start/heartbeats-go-on", run: heartbeats_during_start, covers: [HOST_START_015],
        host: Own, roles: [Idle], needs: [Registry], budget_s: 130, slow: false,
    },
    check! {
        id: "start/failure-stays", run: failure_stays,
        covers: [HOST_START_016, HOST_START_018], host: Shared, roles: [Idle],
        needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/again-after-failure", run: again_after_failure, covers: [HOST_START_017],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "start/reply-and-status", run: reply_and_status, covers: [HOST_START_019],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "stop/during-start", run: stop_during_start, covers: [HOST_STOP_005],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "stop/after-failure", run: stop_after_failure, covers: [HOST_STOP_006],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
];

async fn others_go_on(cx: &CheckContext) -> Flow {
    for (n, behaviour) in [
        Behaviour::NotFound,
        Behaviour::Unauthorised,
        Behaviour::Gone,
        Behaviour::TextInsteadOfJson,
        Behaviour::WrongBlob,
    ]
    .into_iter()
    .enumerate()
    {
        let pushed = cx.push_as(&format!("bad-{n}"), Role::Idle, behaviour);
        cx.start(&cx.id(&format!("bad-{n}")), &idle(cx, &pushed))
            .await?;
        let good = cx.push_as(&format!("good-{n}"), Role::Idle, Behaviour::Healthy);
        let what = format!("a good image after failed pull number {}", n + 1);
        succeeds(
            cx,
            HOST_IMG_020,
            &what,
            &cx.id(&format!("good-{n}")),
            &idle(cx, &good),
        )
        .await?;
    }
    Ok(())
}

/// The registry hangs: the start is answered all the same, best with STARTING.
async fn answered_in_time(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, Behaviour::HangOnManifest);
    let id = cx.id("a");
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    let within = deadlines::START_ANSWER.limit;
    let reply = cx
        .send_within(
            "workload.start",
            payload,
            crate::wire::response::Headers::none(),
            within,
        )
        .await?;
    let what = "a start with a registry that hangs is answered within 60 s";
    let Some(answer) = cx.claim(HOST_START_011).answered(what, &reply) else {
        cx.claim(HOST_START_012)
            .violated("STARTING after 5 s", &["STARTING"], reply.to_string());
        return Ok(());
    };
    let early = answer.took
        <= deadlines::START_STARTING.limit + cx.fixture().patience() + Duration::from_secs(1);
    cx.claim(HOST_START_012)
        .holds("answered with STARTING after 5 s", early, || {
            format!("{answer} after {:.1} s", answer.took.as_secs_f64())
        });
    Ok(())
}

/// Sends a start without waiting for its answer, and waits until its pull has begun.
async fn begin_slow_start(cx: &CheckContext, name: &str, seconds: u64) -> Result<String, Blocked> {
    let pushed = slow(cx, name, seconds);
    let id = cx.id(name);
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    let repository = cx.repository(name);
    let asked = cx
        .registry()
        .wait(&repository, deadlines::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    Ok(id)
}

async fn starting(cx: &CheckContext) -> Flow {
    let id = begin_slow_start(cx, "slow", 3).await?;
    let status = cx.status(&id).await?;
    let what = "status while the image is pulled";
    cx.claim(HOST_START_013)
        .about(&status)
        .is(what, status.state.clone(), State::Starting);
    Ok(())
}

/// While a registry takes eight seconds, other ids are started, asked for and stopped.
async fn others_during_start(cx: &CheckContext) -> Flow {
    let slow = begin_slow_start(cx, "slow", 8).await?;
    let other = cx.id("other");
    let start = cx.workload().start_request(&other).to_string();
    let named = serde_json::json!({ "workloadId": other }).to_string();
    for (command, payload) in [
        ("workload.start", start),
        ("workload.status", named.clone()),
        ("workload.stop", named),
    ] {
        let reply = cx
            .send(command, payload, crate::wire::response::Headers::none())
            .await?;
        let what = format!("{command} for another id is answered within 5 s");
        cx.claim(HOST_START_014).answered(&what, &reply);
    }
    let status = cx.status(&slow).await?;
    let what = "the slow start was still at work (else this check shows nothing)";
    let meanwhile = status.state == State::Starting;
    cx.claim(HOST_START_014)
        .about(&status)
        .holds(what, meanwhile, || status.to_string());
    Ok(())
}

/// A start is at work for more than 30 s, one slow image after the other, and heartbeats go on.
async fn heartbeats_during_start(cx: &CheckContext) -> Flow {
    let mut heartbeats = cx.heartbeats();
    let began = Instant::now();
    let watch = deadlines::HEARTBEAT_GAP.limit + Duration::from_secs(3);
    let probe = cx.id("never-started");
    let mut n = 0;
    while began.elapsed() < watch {
        begin_slow_start(cx, &format!("slow-{n}"), 6).await?;
        // The next one begins before this one is done: some start is always at work.
        let meanwhile = cx.consistently(Duration::from_secs(4), "status is answered", || async {
            Ok::<_, String>(cx.status(&probe).await?)
        });
        meanwhile.await.or_blocked(cx, HOST_START_014)?;
        n += 1;
    }
    let subject = crate::wire::nats::heartbeat_subject(cx.host_id());
    let mut times = vec![began];
    while let Ok(heartbeat) = heartbeats.try_recv() {
        if heartbeat.subject == subject {
            times.push(heartbeat.at);
        }
    }
    times.push(Instant::now());
    let gaps = times
        .iter()
        .zip(times.iter().skip(1))
        .map(|(a, b)| b.saturating_duration_since(*a));
    let longest = gaps.max().unwrap_or_default();
    let what = "no more than 30 s between heartbeats while starts are at work";
    let held = longest <= deadlines::HEARTBEAT_GAP.limit + cx.fixture().patience();
    cx.claim(HOST_START_015).holds(what, held, || {
        format!("{:.1} s without one", longest.as_secs_f64())
    });
    Ok(())
}

async fn failed_start(cx: &CheckContext, id: &str) -> Result<(Pushed, Response), Blocked> {
    let pushed = cx.push_as("idle", Role::Idle, Behaviour::NotFound);
    let start = cx.start(id, &idle(cx, &pushed)).await?;
    if start.state == State::Starting {
        let failed = cx.reaches(id, State::Error, deadlines::PULL_BOUND).await;
        return Ok((pushed, failed.or_blocked(cx, HOST_IMG_003)?));
    }
    match start.state {
        State::Error => Ok((pushed, start)),
        _ => Err(cx.blocked(HOST_IMG_003, "a start that fails", &start)),
    }
}

async fn failure_stays(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let (pushed, failure) = failed_start(cx, &id).await?;
    let stays = cx.consistently(
        Duration::from_secs(1),
        "status answers ERROR with the reason",
        || async {
            let status = cx.status(&id).await?;
            match status.message.trim().is_empty() {
                true => Err(format!("{status}, without a message")),
                false => status.in_state(State::Error),
            }
        },
    );
    cx.claim(HOST_START_016).met(stays.await);
    let names = failure.message.contains("c0") && failure.message.contains(&pushed.reference);
    let what = format!(
        "the message names the component `c0` and the image `{}`",
        pushed.reference
    );
    cx.claim(HOST_START_018)
        .holds(&what, names, || format!("message {:?}", failure.message));
    Ok(())
}

/// The image appears, and the same id is started again without a stop.
async fn again_after_failure(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let (pushed, _) = failed_start(cx, &id).await?;
    cx.registry()
        .behave(&cx.repository("idle"), Behaviour::Healthy);
    succeeds(
        cx,
        HOST_START_017,
        "a corrected start of an id in ERROR",
        &id,
        &idle(cx, &pushed),
    )
    .await?;
    Ok(())
}

async fn reply_and_status(cx: &CheckContext) -> Flow {
    let (good, bad) = (cx.id("good"), cx.id("bad"));
    let healthy = cx.push_as("healthy", Role::Idle, Behaviour::Healthy);
    let missing = cx.push_as("missing", Role::Idle, Behaviour::NotFound);
    for (id, pushed) in [(&good, &healthy), (&bad, &missing)] {
        let start = cx.start(id, &idle(cx, pushed)).await?;
        let status = cx.status(id).await?;
        // STARTING is out of date by the time it is read; every other state is not.
        let agree = start.state == State::Starting || start.state == status.state;
        cx.claim(HOST_START_019).about(&status).holds(
            "status agrees with the reply to the start",
            agree,
            || {
                format!(
                    "the reply said {}, status says {}",
                    start.state, status.state
                )
            },
        );
    }
    Ok(())
}

async fn stop_during_start(cx: &CheckContext) -> Flow {
    let pushed = cx.push_with(Role::Idle, Behaviour::HangOnManifest);
    let id = cx.id("a");
    let payload = idle(cx, &pushed).start_request(&id).to_string();
    cx.publish_no_reply("workload.start", payload).await?;
    let repository = cx.repository(Role::Idle.name());
    let asked = cx
        .registry()
        .wait(&repository, deadlines::LOOK.limit, |log| !log.is_empty())
        .await;
    asked.map_err(|_| cx.blocked(HOST_WIRE_003, "a pull", &"the registry was not asked"))?;
    let stop = serde_json::json!({ "workloadId": id }).to_string();
    let reply = cx
        .send(
            "workload.stop",
            stop,
            crate::wire::response::Headers::none(),
        )
        .await?;
    cx.claim(HOST_STOP_005)
        .answered("a stop during a start is answered within 5 s", &reply);
    let gone = cx
        .reaches(&id, State::NotFound, deadlines::STOP_CANCELS)
        .await;
    if cx.claim(HOST_STOP_005).met(gone).is_some() {
        let free = cx.start(&id, &cx.workload()).await?;
        let accepted = matches!(free.state, State::Running | State::Starting);
        cx.claim(HOST_STOP_005).about(&free).holds(
            "the id can be started at once",
            accepted,
            || free.to_string(),
        );
    }
    Ok(())
}

async fn stop_after_failure(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    failed_start(cx, &id).await?;
    cx.stop(&id).await?;
    cx.claim(HOST_STOP_006).met(cx.gone(&id).await);
    Ok(())
}
