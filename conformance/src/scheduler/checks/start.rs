//! Incarnations: ids, starts, and the meaning of replies to starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, describe, host_names};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, HostFlavor, Reaction};
use crate::spec::requirements::*;

/// Scenarios of the section `start`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "start/ids", run: ids, covers: [SCHED_START_001, SCHED_START_002], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "start/malformed-reply", run: malformed_reply, covers: [SCHED_START_004],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/retry-is-identical", run: retry_is_identical, covers: [SCHED_START_003],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/retry-refused", run: retry_refused, covers: [SCHED_START_005], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/retry-refused-without-code", run: retry_refused_without_code,
        covers: [SCHED_START_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/failing", run: failing,
        covers: [SCHED_START_006, SCHED_START_007, SCHED_START_008, SCHED_START_009],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "start/retry-on-other-host", run: retry_on_other_host, covers: [SCHED_START_013],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 120,
    },
    scenario! {
        id: "start/failed-is-stopped", run: failed_is_stopped, covers: [SCHED_START_014],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/slow-reply", run: slow_reply, covers: [SCHED_START_010], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/starting-state", run: starting_state, covers: [SCHED_START_011],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/no-responders", run: no_responders, covers: [SCHED_START_012], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/single-host", run: single_host, covers: [SCHED_START_015], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/independent", run: independent, covers: [SCHED_START_016], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/negative-restarts", run: negative_restarts, covers: [SCHED_START_017],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "start/resubmitted", run: resubmitted, covers: [SCHED_START_018], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "start/recreated", run: recreated, covers: [SCHED_START_001], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/new-id-after-end", run: new_id_after_end, covers: [SCHED_START_002],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 100,
    },
    scenario! {
        id: "start/silent-host", run: silent_host, covers: [SCHED_START_016], isolation: Shared,
        budget_s: 60,
    },
];

/// Reply that cannot be decoded.
const MALFORMED_REPLY: &[u8] = b"\xff{\"workloadStatus\":";

/// Checks that every id of the app has a valid length and is used on a single host. Returns the
/// number of ids.
fn check_ids(cx: &ScenarioContext) -> usize {
    let starts = cx.starts_of("app");
    let mut hosts_by_id: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (entry, start) in &starts {
        hosts_by_id
            .entry(&start.id)
            .or_default()
            .insert(&entry.host_id);
    }
    let valid = hosts_by_id.keys().all(|id| (1..=256).contains(&id.len()));
    cx.claim(SCHED_START_001)
        .holds("ids have 1 to 256 bytes", valid, || {
            format!("{:?}", hosts_by_id.keys())
        });
    let on_two_hosts: Vec<_> = hosts_by_id
        .iter()
        .filter(|(_, hosts)| hosts.len() > 1)
        .collect();
    cx.claim(SCHED_START_001).holds(
        "no id is used on two hosts",
        on_two_hosts.is_empty(),
        || format!("{on_two_hosts:?}"),
    );
    hosts_by_id.len()
}

/// Replaces, deletes and resubmits workloads, and checks that each incarnation has a valid id of
/// its own, on a single host.
async fn ids(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let set = cx.deployment("app", 3);
    cx.submit(&set).await?;
    let starts = |count: usize, within: Duration| async move {
        cx.eventually(within, &format!("{count} starts"), || {
            let starts = cx.starts_of("app").len();
            std::future::ready(if starts >= count {
                Ok(())
            } else {
                Err(format!("{starts} starts"))
            })
        })
        .await
    };
    starts(3, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    check_ids(cx);
    let running = cx.require_running("app", 3, SCHED_SCALE_001).await?;
    // One workload ends by itself. Later, the set is deleted and submitted again.
    let Some(first) = running.first() else {
        return Ok(());
    };
    first
        .host
        .set_workload_state(&first.id, crate::wire::response::State::NotFound, "");
    let within = cx.timings().poll + cx.timings().act;
    starts(4, within).await.or_blocked(cx, SCHED_STATUS_003)?;
    let all_starts = cx.starts_of("app");
    let same_id = all_starts.iter().filter(|(_, start)| start.id == first.id);
    cx.claim(SCHED_START_002).is(
        "number of starts with the id that ended",
        same_id.count(),
        1,
    );
    cx.delete(&set).await?;
    cx.wait_for_running("app", 0, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    cx.wait_for_deletion(&set, cx.timings().act + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STOP_009)?;
    cx.submit(&set).await?;
    cx.require_running("app", 3, SCHED_SCALE_001).await?;
    let count = check_ids(cx);
    cx.claim(SCHED_START_001).is(
        "number of ids: 3 replicas, 1 replacement, and 3 replicas after the deletion",
        count,
        7,
    );
    Ok(())
}

/// The start is executed, but its reply is malformed. The scheduler must not use another id.
async fn malformed_reply(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::ExecuteThenReply(MALFORMED_REPLY.into()),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let other_id = cx.never(Duration::from_secs(4), "a start under another id", || {
        let ids = cx.started_ids("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_START_004).met(other_id.await);
    Ok(())
}

/// The first start is not executed. A start with the same id must have the same host and content.
async fn retry_is_identical(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<3>().await? {
        host.add_rule(
            CommandRule::on("workload.start", Reaction::Reply(MALFORMED_REPLY.into())).times(1),
        );
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let within = cx.timings().act + cx.timings().retry;
    let running = cx.wait_for_running("app", 1, within).await;
    running.or_blocked(cx, SCHED_START_009)?;
    let starts = cx.starts_of("app");
    for (entry, start) in &starts {
        let first = starts.iter().find(|(_, other)| other.id == start.id);
        let Some((first_entry, first)) = first else {
            continue;
        };
        cx.claim(SCHED_START_003)
            .is("host of a repeated start", &entry.host, &first_entry.host);
        let same = start.json == first.json;
        cx.claim(SCHED_START_003)
            .holds("a repeated start has the same content", same, || {
                format!("{} and {}", text(&first.payload), text(&start.payload))
            });
    }
    Ok(())
}

/// Returns the beginning of a payload as text.
fn text(payload: &[u8]) -> String {
    crate::wire::response::shortened(&String::from_utf8_lossy(payload), 200)
}

/// The repeated start is refused with code 409.
async fn retry_refused(cx: &ScenarioContext) -> Flow {
    check_refused_retry(cx, HostFlavor::Berth).await
}

/// The repeated start is refused without a code, as by deployed hosts.
async fn retry_refused_without_code(cx: &ScenarioContext) -> Flow {
    check_refused_retry(cx, HostFlavor::Wash).await
}

/// The repeated start is refused because the first one has been executed. The workload runs.
async fn check_refused_retry(cx: &ScenarioContext, flavor: HostFlavor) -> Flow {
    let host = cx.start_host(cx.host_config("a").flavor(flavor)).await?;
    host.add_rule(
        CommandRule::on(
            "workload.start",
            Reaction::ExecuteThenReply(MALFORMED_REPLY.into()),
        )
        .times(1),
    );
    // Status replies reveal nothing until the stale reply below is in place.
    host.add_rule(CommandRule::on(
        "workload.status",
        Reaction::Reply(MALFORMED_REPLY.into()),
    ));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let (_, first_start) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let id = first_start.id;
    // This reply is stale: the host has sent it before it executed the start.
    let body = json!({ "workloadStatus": { "workloadId": id, "workloadState": "WORKLOAD_STATE_NOT_FOUND" } });
    host.add_rule(
        CommandRule::on("workload.status", Reaction::Reply(body.to_string().into()))
            .containing(&id)
            .times(1),
    );
    let retried = cx.eventually(cx.timings().act, "the start is sent again", || {
        let retried = cx.starts_of("app").len() > 1;
        std::future::ready(if retried {
            Ok(())
        } else {
            Err("the start was sent once".to_owned())
        })
    });
    // The scheduler may also poll the status instead of sending the start again.
    let _ = retried.await;
    host.clear_rules();
    let ready = cx
        .wait_for_ready(&app, cx.timings().act + cx.timings().show)
        .await;
    cx.claim(SCHED_START_005).met(ready);
    let stops = cx.journal().stops().len();
    cx.claim(SCHED_START_005).is("number of stops", stops, 0);
    cx.claim(SCHED_START_005)
        .is("number of started ids", cx.started_ids("app").len(), 1);
    Ok(())
}

/// Makes every start fail, and checks that the app is not ready, that its status shows the message,
/// and that starts are retried at a limited rate.
async fn failing(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    let message = format!("no such image: {}-xyzzy", cx.group());
    for host in [&a, &b] {
        let failure = Reaction::Fail {
            message: message.clone(),
            recorded: false,
        };
        host.add_rule(CommandRule::on("workload.start", failure));
    }
    let app = cx.deployment("app", 1);
    let from = Instant::now();
    cx.submit(&app).await?;
    cx.wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.claim(SCHED_START_007).met(
        cx.wait_for_status_text(&app, &message, cx.timings().show)
            .await,
    );
    let retried = cx.eventually(cx.timings().retry, "another start", || {
        let starts = cx.starts_of("app").len();
        std::future::ready(if starts > 1 {
            Ok(())
        } else {
            Err(format!("{starts} start"))
        })
    });
    cx.claim(SCHED_START_009).met(retried.await);
    let not_ready = cx.consistently(
        Duration::from_secs(8),
        "the app is not reported as ready",
        || async {
            match cx.is_ready(&app).await {
                Ok(true) => Err("the app is reported as ready".to_owned()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(SCHED_START_006).met(not_ready.await);
    let (starts, took) = (cx.starts_of("app"), from.elapsed());
    let counts = starts.iter().map(|(first, _)| {
        let end = first.at + Duration::from_secs(30);
        starts
            .iter()
            .filter(|(entry, _)| entry.at >= first.at && entry.at < end)
            .count()
    });
    let max_count = counts.max().unwrap_or_default();
    cx.claim(SCHED_START_008)
        .holds("at most 10 starts in any 30 s", max_count <= 10, || {
            format!(
                "{max_count} starts in 30 s, {} starts in {:.0} s",
                starts.len(),
                took.as_secs_f64()
            )
        });
    a.clear_rules();
    b.clear_rules();
    let running = cx.wait_for_running("app", 1, cx.timings().retry).await;
    cx.claim(SCHED_START_009).met(running);
    Ok(())
}

/// Makes the first start on each host fail, and checks that the second start is sent to the other
/// host.
async fn retry_on_other_host(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    cx.wait_until_registered().await?;
    let failure = Reaction::Fail {
        message: "cannot start here".to_owned(),
        recorded: false,
    };
    for host in &hosts {
        host.add_rule(CommandRule::on("workload.start", failure.clone()).times(1));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let running = cx
        .wait_for_running("app", 1, cx.timings().act + cx.timings().retry * 2)
        .await;
    running.or_blocked(cx, SCHED_START_009)?;
    let hosts: Vec<String> = cx
        .starts_of("app")
        .into_iter()
        .map(|(entry, _)| entry.host)
        .collect();
    let differ = hosts.first() != hosts.get(1);
    cx.claim(SCHED_START_013)
        .holds("the second start is sent to another host", differ, || {
            format!("hosts of the starts: {hosts:?}")
        });
    Ok(())
}

/// Makes a start and then a running workload fail, and checks that the id of each is stopped.
async fn failed_is_stopped(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    for host in [&a, &b] {
        let failure = Reaction::Fail {
            message: "cannot link the component".to_owned(),
            recorded: true,
        };
        host.add_rule(CommandRule::on("workload.start", failure).times(1));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let (_, first_start) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.claim(SCHED_START_014)
        .met(cx.wait_for_stop(&first_start.id, cx.timings().act).await);
    // A workload that fails while it runs must be stopped as well.
    let running = cx
        .wait_for_running("app", 1, cx.timings().act + cx.timings().retry)
        .await;
    let running = running.or_blocked(cx, SCHED_START_009)?;
    if let Some(workload) = running.first() {
        workload.host.set_workload_state(
            &workload.id,
            crate::wire::response::State::Error,
            "it failed",
        );
        let within = cx.timings().poll + cx.timings().act;
        cx.claim(SCHED_START_014)
            .met(cx.wait_for_stop(&workload.id, within).await);
    }
    Ok(())
}

/// The reply takes 9 s, and until then the status is NOT_FOUND. The scheduler must wait.
async fn slow_reply(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::Delay(Duration::from_secs(9)),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let (first_entry, _) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.assert_no_commands(
        SCHED_START_010,
        first_entry.at + Duration::from_millis(1),
        Duration::from_secs(9),
    )
    .await;
    let running = cx.wait_for_running("app", 1, cx.timings().act).await;
    cx.claim(SCHED_START_010).met(running);
    Ok(())
}

/// The workload is STARTING for 12 s. It must be neither ready nor restarted during this time.
async fn starting_state(cx: &ScenarioContext) -> Flow {
    let duration = Duration::from_secs(12);
    for host in cx.start_hosts::<2>().await? {
        host.add_rule(CommandRule::on(
            "workload.start",
            Reaction::Starting(duration),
        ));
    }
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let (first_entry, _) = cx
        .wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let from = first_entry.at + Duration::from_millis(1);
    let waiting = cx.consistently(
        duration - Duration::from_secs(1),
        "the app is not reported as ready, and not started or stopped again",
        || async {
            let commands = cx.journal().starts_and_stops_since(from);
            match (cx.is_ready(&app).await, commands.first()) {
                // If the suite is late, the app already runs and may be ready.
                (Ok(true), _) if cx.running("app").is_empty() => {
                    Err("the app is reported as ready".to_owned())
                }
                (_, Some(command)) => Err(command.clone()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(SCHED_START_011).met(waiting.await);
    let within = duration + cx.timings().poll + cx.timings().show;
    cx.claim(SCHED_START_011)
        .met(cx.wait_for_ready(&app, within).await);
    Ok(())
}

/// Host `a` ends when it is the preferred host, so that starts on `a` have no responders.
async fn no_responders(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.start_hosts::<2>().await?;
    // The load on `b` makes `a` the preferred host.
    cx.submit(&cx.deployment("ballast", 3).spec("/hostId", json!(b.id())))
        .await?;
    cx.require_running("ballast", 3, SCHED_PLACE_007).await?;
    cx.submit(&cx.deployment("app", 4)).await?;
    a.kill();
    let running = cx
        .wait_for_running("app", 4, cx.timings().notice + cx.timings().act)
        .await;
    cx.claim(SCHED_START_012).met(running);
    Ok(())
}

/// The reply to the start is lost, and the host is slow to report the status.
async fn single_host(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<3>().await? {
        host.add_rule(CommandRule::on("workload.start", Reaction::DropReply).times(1));
        host.add_rule(
            CommandRule::on(
                "workload.status",
                Reaction::DelayReply(Duration::from_secs(2)),
            )
            .containing("workloadId")
            .times(3),
        );
    }
    cx.submit(&cx.workload("app")).await?;
    cx.wait_for_start("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let two_hosts = cx.never(Duration::from_secs(6), "the workload runs twice", || {
        let running = cx.running_anywhere("app");
        (running.len() > 1).then(|| describe(&running))
    });
    cx.claim(SCHED_START_015).met(two_hosts.await);
    Ok(())
}

/// Host `a` does not respond. Workloads on host `b` must start in time.
async fn independent(cx: &ScenarioContext) -> Flow {
    let a = cx.start_host(cx.host_config("a")).await?;
    let b = cx.start_host(cx.host_config("b")).await?;
    for command in ["workload.start", "workload.stop"] {
        a.add_rule(CommandRule::on(command, Reaction::Ignore));
    }
    cx.submit(&cx.deployment("stuck", 3).spec("/hostId", json!(a.id())))
        .await?;
    cx.wait_for_start("stuck", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_PLACE_007)?;
    for number in 0..5 {
        let app = format!("free{number}");
        cx.submit(&cx.deployment(&app, 1).spec("/hostId", json!(b.id())))
            .await?;
    }
    for number in 0..5 {
        let running = cx
            .wait_for_running(&format!("free{number}"), 1, cx.timings().act)
            .await;
        if let Some(running) = cx.claim(SCHED_START_016).met(running) {
            cx.claim(SCHED_START_016).is(
                "host of the workload",
                host_names(&running),
                vec!["b".to_owned()],
            );
        }
    }
    Ok(())
}

/// Submits services with a negative `maxRestarts` in each kind of object, and checks that none is
/// started.
async fn negative_restarts(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let mark = cx.scheduler().bus.tap().mark();
    let mut apps = Vec::new();
    for (number, restarts) in [-1, -2, i64::from(i32::MIN)].into_iter().enumerate() {
        let (set, alone) = (format!("set{number}"), format!("alone{number}"));
        for manifest in [cx.deployment(&set, 1), cx.workload(&alone)] {
            let service = json!({ "image": cx.image("service", 1), "maxRestarts": restarts });
            // The intake may refuse the manifest.
            let _ = cx.try_submit(&manifest.spec("/service", service)).await;
        }
        apps.extend([(set, restarts), (alone, restarts)]);
    }
    let started = || {
        apps.iter().find_map(|(app, restarts)| {
            let start = cx.find_start(app, mark)?;
            Some(format!("{start} of {app} with maxRestarts {restarts}"))
        })
    };
    let waited = cx.never(Duration::from_millis(2_500), "a start", started);
    cx.claim(SCHED_START_017).met(waited.await);
    Ok(())
}

/// Submits an unchanged object again, the second time with its keys in another order, and checks
/// that nothing is started or stopped.
async fn resubmitted(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("app", 3, SCHED_SCALE_001).await?;
    let from = Instant::now();
    cx.submit(&set).await?;
    // The object is submitted once more, with its keys in another order.
    let spec = set.json().pointer("/spec").cloned().unwrap_or_default();
    let mut members: Vec<(String, Value)> = spec
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    members.reverse();
    let reordered = set
        .clone()
        .with("/spec", Value::Object(members.into_iter().collect()));
    cx.wait(Duration::from_millis(500)).await;
    cx.submit(&reordered).await?;
    cx.assert_no_commands(SCHED_START_018, from, Duration::from_secs(3))
        .await;
    Ok(())
}

/// Deploys and deletes the same object twice, and checks that its two incarnations have different,
/// valid ids.
async fn recreated(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<1>().await?;
    for _ in 0..2 {
        let (set, _) = cx.deploy("a", 1, SCHED_SCALE_001).await?;
        cx.delete(&set).await?;
        let stopped = cx.wait_for_running("a", 0, cx.timings().act).await;
        stopped.or_blocked(cx, SCHED_STOP_001)?;
    }
    let ids = cx.started_ids("a");
    cx.claim(SCHED_START_001)
        .holds("two incarnations have two ids", ids.len() == 2, || {
            format!("{ids:?}")
        });
    let valid = ids.iter().all(|id| (1..=256).contains(&id.len()));
    cx.claim(SCHED_START_001)
        .holds("ids have 1 to 256 bytes", valid, || format!("{ids:?}"));
    Ok(())
}

/// A workload that has ended is started again under another id.
async fn new_id_after_end(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let ends = [
        ("failed", crate::wire::response::State::Error),
        ("gone", crate::wire::response::State::NotFound),
    ];
    for (app, state) in ends {
        let (_, running) = cx.deploy(app, 1, SCHED_SCALE_001).await?;
        let Some(workload) = running.first() else {
            continue;
        };
        workload
            .host
            .set_workload_state(&workload.id, state, "it ended");
        let within = cx.timings().poll + cx.timings().act;
        let restarted = cx.eventually(within, "another start", || {
            let starts = cx.starts_of(app).len();
            std::future::ready(if starts > 1 {
                Ok(())
            } else {
                Err("no other start".to_owned())
            })
        });
        restarted.await.or_blocked(cx, SCHED_STATUS_003)?;
        let starts = cx.starts_of(app);
        let same_id = starts
            .iter()
            .filter(|(_, start)| start.id == workload.id)
            .count();
        cx.claim(SCHED_START_002)
            .is("number of starts with the id that ended", same_id, 1);
    }
    Ok(())
}

/// One of three hosts does not respond to starts. Workloads on the other hosts must start in time.
async fn silent_host(cx: &ScenarioContext) -> Flow {
    let [silent, ..] = cx.start_hosts::<3>().await?;
    silent.add_rule(CommandRule::on("workload.start", Reaction::Ignore));
    let apps: Vec<String> = (0..9).map(|number| format!("a{number}")).collect();
    for app in &apps {
        cx.submit(&cx.deployment(app, 1)).await?;
    }
    let silent_name = silent.name();
    let all_others_run = cx.eventually(
        cx.timings().act + cx.remaining_registration(),
        "all workloads run, except those that were started on the silent host",
        || {
            let waiting: Vec<&String> = apps
                .iter()
                .filter(|app| {
                    let starts = cx.starts_of(app);
                    let on_silent = starts.iter().any(|(entry, _)| entry.host == silent_name);
                    cx.running(app).is_empty() && !on_silent
                })
                .collect();
            std::future::ready(if waiting.is_empty() {
                Ok(())
            } else {
                Err(format!("{waiting:?} do not run"))
            })
        },
    );
    cx.claim(SCHED_START_016).met(all_others_run.await);
    Ok(())
}
