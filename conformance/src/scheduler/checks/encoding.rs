//! Encoding and commands: what a scheduler reads, and what it does about what it cannot send.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule, heartbeat};
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "enc/unknown-fields", run: unknown_fields, covers: [SCHED_ENC_007], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "enc/proto-names", run: proto_names, covers: [SCHED_ENC_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "enc/integers", run: integers, covers: [SCHED_ENC_009], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "enc/null", run: null, covers: [SCHED_ENC_010], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "enc/garbage", run: garbage, covers: [SCHED_ENC_011], isolation: Own,
        needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "enc/no-answer", run: no_answer, covers: [SCHED_ENC_012], isolation: Shared,
        waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "wire/too-large", run: too_large, covers: [SCHED_WIRE_004], isolation: Own,
        needs: [Process], budget_s: 60,
    },
    scenario! {
        id: "wire/traffic", run: traffic, covers: [SCHED_WIRE_006], isolation: Shared,
        budget_s: 60,
    },
];

/// A status with these members.
fn status(id: &str, members: Value) -> Value {
    let mut status =
        json!({ "workloadId": id, "workloadState": "WORKLOAD_STATE_RUNNING", "message": "runs" });
    if let (Some(status), Some(members)) = (status.as_object_mut(), members.as_object()) {
        status.extend(members.clone());
    }
    json!({ "workloadStatus": status })
}

/// Claims that an app gets ready on a host that answers each start and status in this way.
async fn gets_ready(
    cx: &ScenarioContext,
    requirement: Requirement,
    beat: Value,
    answer: impl Fn(&str) -> Value,
) -> Flow {
    let mut plan = cx.plan("a");
    for (name, value) in beat.as_object().into_iter().flatten() {
        plan.facts.insert(name.clone(), value.clone());
    }
    let host = cx.host(plan).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector", json!({ "hostgroup": cx.group() }));
    // It is known by its id what to answer: the first answer is lost, and the others are what they are.
    host.script(Rule::on(
        "workload.start",
        Act::AnswerAfter(Duration::from_millis(1_500)),
    ));
    cx.submit(&app).await?;
    let started = cx
        .started("app", cx.timings().register + cx.timings().act)
        .await;
    let Some((_, came)) = cx.claim(requirement).met(started) else {
        return Ok(());
    };
    let body = bytes::Bytes::from(answer(&came.id).to_string());
    host.script(Rule::on("workload.status", Act::Response(body.clone())).containing(&came.id));
    cx.claim(requirement).met(
        cx.says_ready(&app, true, cx.timings().act + cx.timings().show)
            .await,
    );
    let stays = cx.consistently(
        cx.timings().poll.min(Duration::from_secs(4)),
        "it stays ready",
        || async {
            match cx.is_ready(&app).await {
                Ok(false) => Err("it is shown as not ready".to_owned()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(requirement).met(stays.await);
    // And a start that is answered so.
    let more = cx.deployment("more", 1);
    host.behave();
    let id_of = cx.starts_of("more").len();
    host.script(Rule::on("workload.start", Act::ObeyAndAnswer(body)).containing("nobody"));
    cx.submit(&more).await?;
    let placed = cx.runs("more", 1 + id_of, cx.timings().act).await;
    cx.claim(requirement).met(placed);
    Ok(())
}

async fn unknown_fields(cx: &ScenarioContext) -> Flow {
    let import = json!({ "namespace": "acme", "package": "queue", "interfaces": ["push"], "futureField": 1 });
    let beat = json!({ "futureField": { "a": [1] }, "imports": [import] });
    gets_ready(cx, SCHED_ENC_007, beat, |id| {
        let mut reply = status(id, json!({ "futureField": true }));
        if let Some(reply) = reply.as_object_mut() {
            reply.insert("another".to_owned(), json!([{}]));
        }
        reply
    })
    .await
}

async fn proto_names(cx: &ScenarioContext) -> Flow {
    let beat = json!({
        "friendlyName": null, "friendly_name": format!("{}-proto", cx.group()),
        "startedAt": null, "started_at": "2026-01-01T00:00:00Z",
        "httpPort": null, "http_port": 8080,
    });
    let interface =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    gets_ready(cx, SCHED_ENC_008, beat, |id| {
        json!({ "workload_status": { "workload_id": id, "workload_state": 2, "message": "runs" } })
    })
    .await?;
    cx.submit(&cx.deployment("http", 1).spec("/hostInterfaces", interface))
        .await?;
    let placed = cx.runs("http", 1, cx.timings().act).await;
    cx.claim(SCHED_ENC_008).met(placed);
    Ok(())
}

/// A host that is out of memory in numbers, and one in text: neither is the one to choose.
async fn integers(cx: &ScenarioContext) -> Flow {
    let loaded = |plan: crate::scheduler::simulated_host::HostPlan, total: Value, free: Value| {
        plan.fact("systemMemoryTotal", total)
            .fact("systemMemoryFree", free)
            .fact("workloadCount", json!(7))
    };
    let numbers = cx.plan("numbers");
    let numbers = cx
        .host(loaded(numbers, json!(16_000_000_000_u64), json!(1_000_000)))
        .await?;
    let texts = cx.plan("texts").fact("httpPort", json!("8080"));
    let texts = cx
        .host(loaded(texts, json!("16000000000"), json!("1000000")))
        .await?;
    let http =
        json!([{ "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"] }]);
    for (app, host) in [("one", &numbers), ("other", &texts)] {
        let app_of = cx.deployment(app, 1).spec("/hostId", json!(host.id()));
        cx.submit(&app_of.spec("/hostInterfaces", http.clone()))
            .await?;
        let within = cx.timings().register + cx.timings().act;
        let placed = cx.runs(app, 1, within).await;
        cx.claim(SCHED_ENC_009).met(placed);
    }
    cx.host(cx.plan("free")).await?;
    cx.all_registered().await?;
    let (_, next) = cx.deployed("next", 1, SCHED_SCALE_001).await?;
    let names = crate::scheduler::context::hosts_of(&next);
    cx.claim(SCHED_ENC_009)
        .is("where the next one runs", names, vec!["free".to_owned()]);
    Ok(())
}

async fn null(cx: &ScenarioContext) -> Flow {
    // The plan takes null for absent, so that these are published by hand.
    let host = cx.host(cx.plan("a").label("zone", "a")).await?;
    host.mute(true);
    let mut beat = heartbeat(
        &cx.plan("a").label("zone", "b"),
        &host.id(),
        "2026-01-01T00:00:00Z",
        0,
    );
    if let Some(beat) = beat.as_object_mut() {
        for name in [
            "version",
            "osKernel",
            "imports",
            "exports",
            "workloadCount",
            "environment",
            "systemCpuUsage",
            "startedAt",
        ] {
            beat.insert(name.to_owned(), Value::Null);
        }
    }
    host.beat_with(beat.to_string()).await;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&app).await?;
    host.script(Rule::on(
        "workload.start",
        Act::AnswerAfter(Duration::from_millis(800)),
    ));
    let started = cx.started("app", cx.timings().act).await;
    if let Some((_, came)) = cx.claim(SCHED_ENC_010).met(started) {
        let mut reply = status(&came.id, json!({ "message": null }));
        if let Some(reply) = reply.as_object_mut() {
            reply.insert("error".to_owned(), Value::Null);
        }
        host.script(
            Rule::on("workload.status", Act::Response(reply.to_string().into()))
                .containing(&came.id),
        );
        cx.claim(SCHED_ENC_010).met(
            cx.says_ready(&app, true, cx.timings().act + cx.timings().show)
                .await,
        );
        let stays = cx.consistently(
            cx.timings().poll.min(Duration::from_secs(4)),
            "it stays ready",
            || async {
                match cx.is_ready(&app).await {
                    Ok(false) => Err("it is shown as not ready".to_owned()),
                    _ => Ok(()),
                }
            },
        );
        cx.claim(SCHED_ENC_010).met(stays.await);
    }
    Ok(())
}

async fn garbage(cx: &ScenarioContext) -> Flow {
    let [a, _] = cx.hosts::<2>().await?;
    cx.submit(&cx.deployment("app", 2)).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.runs("app", 2, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let from = Instant::now();
    let deep = "[".repeat(100_000);
    for payload in [
        &b""[..],
        b"null",
        b"[]",
        b"{",
        b"\xff\xfe\x00",
        b"{\"id\":7}",
        b"{\"id\":\"a\",\"labels\":3}",
        b"{}",
        deep.as_bytes(),
    ] {
        a.beat_with(payload.to_vec()).await;
    }
    cx.assert_no_commands(SCHED_ENC_011, from, Duration::from_secs(2))
        .await;
    cx.claim(SCHED_ENC_011).holds(
        "the scheduler lives",
        !cx.live().has_died(),
        || "its process has ended",
    );
    cx.host(cx.plan("new").label("zone", "new")).await?;
    cx.submit(
        &cx.deployment("more", 1)
            .spec("/hostSelector/zone", json!("new")),
    )
    .await?;
    let placed = cx
        .runs("more", 1, cx.timings().register + cx.timings().act)
        .await;
    cx.claim(SCHED_ENC_011).met(placed);
    Ok(())
}

/// Answers that are no answers, and nothing behind them: it is not ready, and gets there in the end.
async fn no_answer(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let other = status("somebody-else", json!({}));
    let stateless = json!({ "workloadStatus": { "message": "?" } });
    for (number, body) in [
        json!({}),
        json!({ "workloadStatus": null }),
        stateless,
        other,
    ]
    .into_iter()
    .enumerate()
    {
        let app = format!("app{number}");
        let answer = Act::Response(body.to_string().into());
        host.script(
            Rule::on("workload.start", answer)
                .containing(&cx.image(&app, 1))
                .times(1),
        );
        cx.submit(&cx.deployment(&app, 1)).await?;
    }
    for number in 0..4 {
        let app = format!("app{number}");
        let manifest = cx.deployment(&app, 1);
        cx.started(&app, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_SCALE_001)?;
        let early = cx.running(&app).is_empty()
            && cx.is_ready(&manifest).await == Ok(true)
            && cx.running(&app).is_empty();
        cx.claim(SCHED_ENC_012).holds(
            "it is not shown as ready before it runs",
            !early,
            || "it is",
        );
    }
    for number in 0..4 {
        let placed = cx
            .runs(
                &format!("app{number}"),
                1,
                cx.timings().act + cx.timings().retry,
            )
            .await;
        cx.claim(SCHED_ENC_012).met(placed);
    }
    Ok(())
}

async fn too_large(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    // More than the megabyte of an ordinary broker, and less than an API server keeps.
    let large: serde_json::Map<String, Value> = (0..18)
        .map(|number| (format!("K{number}"), json!("x".repeat(64 * 1024))))
        .collect();
    let app: Manifest = cx.deployment("app", 1).spec(
        "/components/0/localResources/environment/config",
        Value::Object(large),
    );
    cx.submit(&app).await?;
    let shown = cx.eventually(
        cx.timings().act + cx.timings().show + cx.timings().reconnect,
        "a reason is shown",
        || async {
            let told = cx.told(&app).await.to_lowercase();
            let words = ["large", "payload", "too big", "size", "exceed", "maximum"];
            if words.iter().any(|word| told.contains(word)) {
                Ok(())
            } else {
                Err(crate::wire::response::shortened(&told, 300))
            }
        },
    );
    cx.claim(SCHED_WIRE_004).met(shown.await);
    cx.claim(SCHED_WIRE_004).holds(
        "it is not shown as ready",
        cx.is_ready(&app).await != Ok(true),
        || "it is",
    );
    cx.submit(&cx.deployment("more", 1)).await?;
    let placed = cx.runs("more", 1, cx.timings().act).await;
    cx.claim(SCHED_WIRE_004).met(placed);
    Ok(())
}

/// Ordinary life, for the monitors to look at; and how often one id is asked for.
async fn traffic(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let service = json!({ "image": cx.image("service", 1), "maxRestarts": 3 });
    cx.submit(&cx.deployment("app", 2).spec("/service", service))
        .await?;
    cx.placed("app", 2, SCHED_SCALE_001).await?;
    cx.pass(Duration::from_secs(4)).await;
    let asked = cx.journal().commands("workload.status");
    let busiest = asked.iter().map(|(first, came)| {
        let end = first.at + Duration::from_secs(1);
        asked
            .iter()
            .filter(|(entry, other)| {
                other.id == came.id
                    && entry.host_id == first.host_id
                    && entry.at >= first.at
                    && entry.at < end
            })
            .count()
    });
    let busiest = busiest.max().unwrap_or_default();
    cx.claim(SCHED_WIRE_006)
        .holds("at most 5 times a second", busiest <= 5, || {
            format!("{busiest} times within a second")
        });
    Ok(())
}
