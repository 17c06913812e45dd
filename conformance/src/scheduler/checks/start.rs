//! Incarnations: ids, starts, and what their answers mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::Flow;
use crate::scheduler::context::{ScenarioContext, hosts_of, shown};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule};
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "start/ids", run: ids, covers: [SCHED_START_001, SCHED_START_002], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "start/garbled-answer", run: garbled_answer, covers: [SCHED_START_004],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/repeated", run: repeated, covers: [SCHED_START_003], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/repeat-refused", run: repeat_refused, covers: [SCHED_START_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/refused", run: refused,
        covers: [SCHED_START_006, SCHED_START_007, SCHED_START_008, SCHED_START_009],
        isolation: Shared, waits: |timings| timings.retry, budget_s: 150,
    },
    scenario! {
        id: "start/another-host", run: another_host, covers: [SCHED_START_013], isolation: Shared,
        waits: |timings| timings.retry, budget_s: 120,
    },
    scenario! {
        id: "start/error-is-stopped", run: error_is_stopped, covers: [SCHED_START_014],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "start/patience", run: patience, covers: [SCHED_START_010], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/starting", run: starting, covers: [SCHED_START_011], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/nobody", run: nobody, covers: [SCHED_START_012], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/one-place", run: one_place, covers: [SCHED_START_015], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/independent", run: independent, covers: [SCHED_START_016], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/negative", run: negative, covers: [SCHED_START_017], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "start/again", run: again, covers: [SCHED_START_018], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "start/two-lives", run: two_lives, covers: [SCHED_START_001], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "start/after-the-end", run: after_the_end, covers: [SCHED_START_002],
        isolation: Shared, waits: |timings| timings.poll, budget_s: 100,
    },
    scenario! {
        id: "start/others-go-on", run: others_go_on, covers: [SCHED_START_016], isolation: Shared,
        budget_s: 60,
    },
];

/// Bytes that are no message.
const GARBAGE: &[u8] = b"\xff{\"workloadStatus\":";

/// Claims that no id was given to two hosts, and that each is one.
fn judge_ids(cx: &ScenarioContext) -> usize {
    let starts = cx.starts_of("app");
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (entry, came) in &starts {
        used.entry(&came.id).or_default().insert(&entry.host_id);
    }
    let sizes = used.keys().all(|id| (1..=256).contains(&id.len()));
    cx.claim(SCHED_START_001)
        .holds("ids have 1 to 256 bytes", sizes, || {
            format!("{:?}", used.keys())
        });
    let twice: Vec<_> = used.iter().filter(|(_, hosts)| hosts.len() > 1).collect();
    cx.claim(SCHED_START_001)
        .holds("no id is given to two hosts", twice.is_empty(), || {
            format!("{twice:?}")
        });
    used.len()
}

async fn ids(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
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
    judge_ids(cx);
    let placed = cx.placed("app", 3, SCHED_SCALE_001).await?;
    // One ends by itself, the others are deleted and wanted again.
    let Some(first) = placed.first() else {
        return Ok(());
    };
    first
        .host
        .put(&first.id, crate::wire::response::State::NotFound, "");
    let within = cx.timings().poll + cx.timings().act;
    starts(4, within).await.or_blocked(cx, SCHED_STATUS_003)?;
    let under_it = cx.starts_of("app");
    let under_it = under_it.iter().filter(|(_, came)| came.id == first.id);
    cx.claim(SCHED_START_002)
        .is("starts under the id that ended", under_it.count(), 1);
    cx.withdraw(&set).await?;
    cx.runs("app", 0, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    cx.says_gone(&set, cx.timings().act + cx.timings().show)
        .await
        .or_blocked(cx, SCHED_STOP_009)?;
    cx.submit(&set).await?;
    cx.placed("app", 3, SCHED_SCALE_001).await?;
    let count = judge_ids(cx);
    cx.claim(SCHED_START_001).is(
        "ids of 3 replicas, one of which ended, and 3 later ones",
        count,
        7,
    );
    Ok(())
}

/// It runs, and the answer says nothing.
async fn garbled_answer(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<2>().await? {
        host.script(Rule::on(
            "workload.start",
            Act::ObeyAndAnswer(GARBAGE.into()),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    cx.started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let other = cx.never(Duration::from_secs(4), "a start under another id", || {
        let ids = cx.ids_of("app");
        (ids.len() > 1).then(|| format!("{ids:?}"))
    });
    cx.claim(SCHED_START_004).met(other.await);
    Ok(())
}

/// The start did not arrive: whatever is sent again is the same.
async fn repeated(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<3>().await? {
        host.script(Rule::on("workload.start", Act::Response(GARBAGE.into())).times(1));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let within = cx.timings().act + cx.timings().retry;
    let runs = cx.runs("app", 1, within).await;
    runs.or_blocked(cx, SCHED_START_009)?;
    let starts = cx.starts_of("app");
    for (entry, came) in &starts {
        let first = starts.iter().find(|(_, other)| other.id == came.id);
        let Some((first_entry, first)) = first else {
            continue;
        };
        cx.claim(SCHED_START_003).is(
            "the host of a start with that id",
            &entry.host,
            &first_entry.host,
        );
        let same = came.json == first.json;
        cx.claim(SCHED_START_003)
            .holds("a start with that id has the same content", same, || {
                format!("{} and {}", text(&first.payload), text(&came.payload))
            });
    }
    Ok(())
}

fn text(payload: &[u8]) -> String {
    crate::wire::response::shortened(&String::from_utf8_lossy(payload), 200)
}

/// The repeated start is refused because the first one was carried out.
async fn repeat_refused(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    host.script(Rule::on("workload.start", Act::ObeyAndAnswer(GARBAGE.into())).times(1));
    // Nothing is learnt of it before the lie below is in place.
    host.script(Rule::on("workload.status", Act::Response(GARBAGE.into())));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let first = cx
        .started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let id = first.1.id;
    // A status that was answered before the start was carried out.
    let body = json!({ "workloadStatus": { "workloadId": id, "workloadState": "WORKLOAD_STATE_NOT_FOUND" } });
    host.script(
        Rule::on("workload.status", Act::Response(body.to_string().into()))
            .containing(&id)
            .times(1),
    );
    let repeated = cx.eventually(
        cx.timings().act,
        "the start is repeated, or the lie seen through",
        || {
            let repeated = cx.starts_of("app").len() > 1;
            std::future::ready(if repeated {
                Ok(())
            } else {
                Err("it is not".to_owned())
            })
        },
    );
    // A scheduler that goes on asking instead is right as well.
    let _ = repeated.await;
    host.behave();
    let ready = cx
        .says_ready(&app, true, cx.timings().act + cx.timings().show)
        .await;
    cx.claim(SCHED_START_005).met(ready);
    let stops = cx.journal().stops().len();
    cx.claim(SCHED_START_005).is("stops", stops, 0);
    cx.claim(SCHED_START_005)
        .is("ids that were started", cx.ids_of("app").len(), 1);
    Ok(())
}

async fn refused(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    let message = format!("no such image: {}-xyzzy", cx.group());
    for host in [&a, &b] {
        let act = Act::Fail {
            message: message.clone(),
            known: false,
        };
        host.script(Rule::on("workload.start", act));
    }
    let app = cx.deployment("app", 1);
    let from = Instant::now();
    cx.submit(&app).await?;
    cx.started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.claim(SCHED_START_007)
        .met(cx.tells(&app, &message, cx.timings().show).await);
    let retried = cx.eventually(cx.timings().retry, "another start", || {
        let starts = cx.starts_of("app").len();
        std::future::ready(if starts > 1 {
            Ok(())
        } else {
            Err(format!("{starts} start"))
        })
    });
    cx.claim(SCHED_START_009).met(retried.await);
    let ready = cx.consistently(
        Duration::from_secs(8),
        "it is not shown as ready",
        || async {
            match cx.is_ready(&app).await {
                Ok(true) => Err("it is".to_owned()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(SCHED_START_006).met(ready.await);
    let (starts, took) = (cx.starts_of("app"), from.elapsed());
    let busiest = starts.iter().map(|(first, _)| {
        let end = first.at + Duration::from_secs(30);
        starts
            .iter()
            .filter(|(entry, _)| entry.at >= first.at && entry.at < end)
            .count()
    });
    let busiest = busiest.max().unwrap_or_default();
    cx.claim(SCHED_START_008)
        .holds("at most 10 starts in any 30 s", busiest <= 10, || {
            format!(
                "{busiest} starts, of {} in {:.0} s",
                starts.len(),
                took.as_secs_f64()
            )
        });
    a.behave();
    b.behave();
    let runs = cx.runs("app", 1, cx.timings().retry).await;
    cx.claim(SCHED_START_009).met(runs);
    Ok(())
}

async fn another_host(cx: &ScenarioContext) -> Flow {
    let hosts = cx.hosts::<2>().await?;
    cx.all_registered().await?;
    let act = Act::Fail {
        message: "not here".to_owned(),
        known: false,
    };
    for host in &hosts {
        host.script(Rule::on("workload.start", act.clone()).times(1));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let runs = cx
        .runs("app", 1, cx.timings().act + cx.timings().retry * 2)
        .await;
    runs.or_blocked(cx, SCHED_START_009)?;
    let asked: Vec<String> = cx
        .starts_of("app")
        .into_iter()
        .map(|(entry, _)| entry.host)
        .collect();
    let differ = asked.first() != asked.get(1);
    cx.claim(SCHED_START_013)
        .holds("the second host that is asked is another", differ, || {
            format!("{asked:?}")
        });
    Ok(())
}

async fn error_is_stopped(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    for host in [&a, &b] {
        let act = Act::Fail {
            message: "cannot be linked".to_owned(),
            known: true,
        };
        host.script(Rule::on("workload.start", act).times(1));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let first = cx
        .started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.claim(SCHED_START_014)
        .met(cx.stopped(&first.1.id, cx.timings().act).await);
    // The same for one that ran.
    let runs = cx
        .runs("app", 1, cx.timings().act + cx.timings().retry)
        .await;
    let running = runs.or_blocked(cx, SCHED_START_009)?;
    if let Some(placed) = running.first() {
        placed
            .host
            .put(&placed.id, crate::wire::response::State::Error, "it broke");
        let within = cx.timings().poll + cx.timings().act;
        cx.claim(SCHED_START_014)
            .met(cx.stopped(&placed.id, within).await);
    }
    Ok(())
}

/// The answer takes its time, and status knows nothing meanwhile.
async fn patience(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<2>().await? {
        host.script(Rule::on(
            "workload.start",
            Act::After(Duration::from_secs(9)),
        ));
    }
    cx.submit(&cx.deployment("app", 1)).await?;
    let first = cx
        .started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.assert_no_commands(
        SCHED_START_010,
        first.0.at + Duration::from_millis(1),
        Duration::from_secs(9),
    )
    .await;
    let runs = cx.runs("app", 1, cx.timings().act).await;
    cx.claim(SCHED_START_010).met(runs);
    Ok(())
}

async fn starting(cx: &ScenarioContext) -> Flow {
    let takes = Duration::from_secs(6);
    for host in cx.hosts::<2>().await? {
        host.script(Rule::on("workload.start", Act::Starting(takes)));
    }
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let first = cx
        .started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    let from = first.0.at + Duration::from_millis(1);
    let at_work = cx.consistently(
        takes - Duration::from_secs(1),
        "it is neither ready nor given up",
        || async {
            let orders = cx.journal().orders_since(from);
            match (cx.is_ready(&app).await, orders.first()) {
                // Unless it runs by now: the suite may be late.
                (Ok(true), _) if cx.running("app").is_empty() => {
                    Err("it is shown as ready".to_owned())
                }
                (_, Some(order)) => Err(order.clone()),
                _ => Ok(()),
            }
        },
    );
    cx.claim(SCHED_START_011).met(at_work.await);
    let within = takes + cx.timings().poll + cx.timings().show;
    cx.claim(SCHED_START_011)
        .met(cx.says_ready(&app, true, within).await);
    Ok(())
}

async fn nobody(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    // So that it is the one that is chosen.
    cx.submit(&cx.deployment("ballast", 3).spec("/hostId", json!(b.id())))
        .await?;
    cx.placed("ballast", 3, SCHED_PLACE_007).await?;
    cx.submit(&cx.deployment("app", 4)).await?;
    a.kill();
    let placed = cx
        .runs("app", 4, cx.timings().notice + cx.timings().act)
        .await;
    cx.claim(SCHED_START_012).met(placed);
    Ok(())
}

/// The answer is lost, and the host is not quick to say how it stands.
async fn one_place(cx: &ScenarioContext) -> Flow {
    for host in cx.hosts::<3>().await? {
        host.script(Rule::on("workload.start", Act::LoseAnswer).times(1));
        host.script(
            Rule::on("workload.status", Act::AnswerAfter(Duration::from_secs(2)))
                .containing("workloadId")
                .times(3),
        );
    }
    cx.submit(&cx.workload("app")).await?;
    cx.started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_START_001)?;
    let one = cx.never(Duration::from_secs(6), "it runs in two places", || {
        let running = cx.running_anywhere("app");
        (running.len() > 1).then(|| shown(&running))
    });
    cx.claim(SCHED_START_015).met(one.await);
    Ok(())
}

async fn independent(cx: &ScenarioContext) -> Flow {
    let a = cx.host(cx.plan("a")).await?;
    let b = cx.host(cx.plan("b")).await?;
    for command in ["workload.start", "workload.stop"] {
        a.script(Rule::on(command, Act::Ignore));
    }
    cx.submit(&cx.deployment("stuck", 3).spec("/hostId", json!(a.id())))
        .await?;
    cx.started("stuck", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_PLACE_007)?;
    for number in 0..5 {
        let app = format!("free{number}");
        cx.submit(&cx.deployment(&app, 1).spec("/hostId", json!(b.id())))
            .await?;
    }
    for number in 0..5 {
        let placed = cx.runs(&format!("free{number}"), 1, cx.timings().act).await;
        if let Some(placed) = cx.claim(SCHED_START_016).met(placed) {
            cx.claim(SCHED_START_016)
                .is("where it runs", hosts_of(&placed), vec!["b".to_owned()]);
        }
    }
    Ok(())
}

async fn negative(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let service = json!({ "image": cx.image("app", 1), "maxRestarts": -1 });
    // A refusal at the intake is right, too.
    let _ = cx
        .try_submit(&cx.deployment("app", 1).spec("/service", service))
        .await;
    cx.no_start(SCHED_START_017, "app").await;
    Ok(())
}

async fn again(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, _) = cx.deployed("app", 3, SCHED_SCALE_001).await?;
    let from = Instant::now();
    cx.submit(&set).await?;
    // The same with its keys in another order.
    let spec = set.json().pointer("/spec").cloned().unwrap_or_default();
    let mut turned: Vec<(String, Value)> = spec
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    turned.reverse();
    let turned = set
        .clone()
        .with("/spec", Value::Object(turned.into_iter().collect()));
    cx.pass(Duration::from_millis(500)).await;
    cx.submit(&turned).await?;
    cx.assert_no_commands(SCHED_START_018, from, Duration::from_secs(3))
        .await;
    Ok(())
}

async fn two_lives(cx: &ScenarioContext) -> Flow {
    cx.hosts::<1>().await?;
    for _ in 0..2 {
        let (set, _) = cx.deployed("a", 1, SCHED_SCALE_001).await?;
        cx.withdraw(&set).await?;
        let gone = cx.runs("a", 0, cx.timings().act).await;
        gone.or_blocked(cx, SCHED_STOP_001)?;
    }
    let ids = cx.ids_of("a");
    cx.claim(SCHED_START_001)
        .holds("two incarnations have two ids", ids.len() == 2, || {
            format!("{ids:?}")
        });
    let right = ids.iter().all(|id| (1..=256).contains(&id.len()));
    cx.claim(SCHED_START_001)
        .holds("an id has 1 to 256 bytes", right, || format!("{ids:?}"));
    Ok(())
}

/// What ran and ended comes back under another id.
async fn after_the_end(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let ends = [
        ("failed", crate::wire::response::State::Error),
        ("gone", crate::wire::response::State::NotFound),
    ];
    for (app, state) in ends {
        let (_, placed) = cx.deployed(app, 1, SCHED_SCALE_001).await?;
        let Some(placed) = placed.first() else {
            continue;
        };
        placed.host.put(&placed.id, state, "it is over");
        let within = cx.timings().poll + cx.timings().act;
        let again = cx.eventually(within, "another start", || {
            let starts = cx.starts_of(app).len();
            std::future::ready(if starts > 1 {
                Ok(())
            } else {
                Err("none".to_owned())
            })
        });
        again.await.or_blocked(cx, SCHED_STATUS_003)?;
        let starts = cx.starts_of(app);
        let old = starts
            .iter()
            .filter(|(_, came)| came.id == placed.id)
            .count();
        cx.claim(SCHED_START_002)
            .is("starts of the id that ran", old, 1);
    }
    Ok(())
}

async fn others_go_on(cx: &ScenarioContext) -> Flow {
    let [silent, ..] = cx.hosts::<3>().await?;
    silent.script(Rule::on("workload.start", Act::Ignore));
    let apps: Vec<String> = (0..9).map(|number| format!("a{number}")).collect();
    for app in &apps {
        cx.submit(&cx.deployment(app, 1)).await?;
    }
    let name = silent.name();
    let went_on = cx.eventually(
        cx.timings().act + cx.registering(),
        "all but those sent to the silent host run",
        || {
            let waiting: Vec<&String> = apps
                .iter()
                .filter(|app| {
                    let starts = cx.starts_of(app);
                    let owed = starts.iter().any(|(entry, _)| entry.host == name);
                    cx.running(app).is_empty() && !owed
                })
                .collect();
            std::future::ready(if waiting.is_empty() {
                Ok(())
            } else {
                Err(format!("{waiting:?} do not"))
            })
        },
    );
    cx.claim(SCHED_START_016).met(went_on.await);
    Ok(())
}
