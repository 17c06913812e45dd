//! Stops: that they come, to whom, how often, and in which order.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::check::outcome::Flow;
use crate::scheduler::context::ScenarioContext;
use crate::scheduler::journal::{Entry, EventKind, contains};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{Act, Rule};
use crate::spec::requirements::*;
use crate::wire::response::State;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "stop/deleted", run: deleted,
        covers: [SCHED_STOP_001, SCHED_STOP_002, SCHED_STOP_005], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/unanswered", run: unanswered, covers: [SCHED_STOP_003], isolation: Shared,
        budget_s: 90,
    },
    scenario! {
        id: "stop/stopping", run: stopping, covers: [SCHED_STOP_004], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "stop/unanswered-start", run: unanswered_start,
        covers: [SCHED_STOP_006, SCHED_STOP_007], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/lost-host", run: lost_host, covers: [SCHED_STOP_008], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "stop/shown", run: shown, covers: [SCHED_STOP_009], isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "stop/for-good", run: for_good, covers: [SCHED_STOP_010], isolation: Shared,
        budget_s: 60,
    },
];

async fn deleted(cx: &ScenarioContext) -> Flow {
    let [a, b] = cx.hosts::<2>().await?;
    // Somebody else's.
    for host in [&a, &b] {
        host.put(&format!("foreign-{}", cx.group()), State::Running, "");
    }
    let (one, placed) = cx.deployed("one", 2, SCHED_SCALE_001).await?;
    cx.deployed("other", 2, SCHED_SCALE_001).await?;
    cx.withdraw(&one).await?;
    for id in placed.iter().map(|placed| &placed.id) {
        cx.claim(SCHED_STOP_001)
            .met(cx.stopped(id, cx.timings().act).await);
    }
    cx.runs("one", 0, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    for id in placed.iter().map(|placed| &placed.id) {
        let within = cx.timings().resend + cx.timings().act;
        let gone = cx.eventually(within, "the host says NOT_FOUND", || async {
            match says_not_found(&cx.journal().entries(), id) {
                true => Ok(()),
                false => Err("it has not been asked again".to_owned()),
            }
        });
        gone.await.or_blocked(cx, SCHED_STOP_004)?;
    }
    // Long enough for the host's word to have come.
    cx.pass(Duration::from_secs(1) + cx.patience()).await;
    let from = Instant::now();
    let more = cx.never(Duration::from_secs(3), "another stop", || {
        cx.journal()
            .orders_since(from)
            .into_iter()
            .find(|order| order.contains("workload.stop"))
    });
    cx.claim(SCHED_STOP_005).met(more.await);
    let right: Vec<&str> = placed.iter().map(|placed| &*placed.id).collect();
    let wrong: Vec<String> = cx
        .journal()
        .stops()
        .into_iter()
        .map(|(_, came)| came.id)
        .filter(|id| !right.contains(&&**id))
        .collect();
    cx.claim(SCHED_STOP_002)
        .holds("only what was deleted is stopped", wrong.is_empty(), || {
            format!("{wrong:?} as well")
        });
    Ok(())
}

/// Whether the host has said NOT_FOUND to the stop of an id or to what it was asked afterwards. The answer to a status
/// that was sent before the stop may be one that nobody waits for any more. Pure.
fn says_not_found(entries: &[Entry], id: &str) -> bool {
    let is_stop = |entry: &Entry| {
        let stop = entry.command("workload.stop");
        stop.is_some_and(|came| came.id == id)
    };
    let mut inboxes = BTreeSet::new();
    entries
        .iter()
        .skip_while(|entry| !is_stop(entry))
        .any(|entry| match &entry.what {
            EventKind::ReceivedCommand(came) if came.id == id => {
                inboxes.extend(came.reply.as_deref());
                false
            }
            EventKind::Answered(inbox, payload) => {
                inboxes.contains(&**inbox) && contains(payload, "WORKLOAD_STATE_NOT_FOUND")
            }
            _ => false,
        })
}

async fn unanswered(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (set, placed) = cx.deployed("app", 1, SCHED_SCALE_001).await?;
    host.script(Rule::on("workload.stop", Act::Ignore).times(2));
    cx.withdraw(&set).await?;
    for times in 2..=3 {
        let within = cx.timings().resend + cx.timings().act;
        let repeated = cx.eventually(within, "the stop comes again", || {
            let stops = cx.journal().stops().len();
            std::future::ready(if stops >= times {
                Ok(())
            } else {
                Err(format!("{stops} stops"))
            })
        });
        cx.claim(SCHED_STOP_003).met(repeated.await);
    }
    if let Some(placed) = placed.first() {
        let wrong = cx
            .journal()
            .stops()
            .into_iter()
            .filter(|(_, came)| came.id != placed.id)
            .count();
        cx.claim(SCHED_STOP_003).is("stops of other ids", wrong, 0);
    }
    Ok(())
}

/// The host says STOPPING, and takes its time.
async fn stopping(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (set, placed) = cx.deployed("app", 1, SCHED_SCALE_001).await?;
    let Some(placed) = placed.first() else {
        return Ok(());
    };
    let body = json!({ "workloadStatus": { "workloadId": placed.id, "workloadState": "WORKLOAD_STATE_STOPPING", "message": "in a moment" } });
    let answer = Act::Response(body.to_string().into());
    host.script(Rule::on("workload.stop", answer).times(1));
    cx.withdraw(&set).await?;
    cx.stopped(&placed.id, cx.timings().act)
        .await
        .or_blocked(cx, SCHED_STOP_001)?;
    host.put(&placed.id, State::Stopping, "in a moment");
    let from = Instant::now();
    let goes_on = cx.eventually(cx.timings().resend, "a stop or status of it", || {
        let entries = cx.journal().since(from);
        let asked = entries.iter().any(|entry| {
            ["workload.stop", "workload.status"].iter().any(|command| {
                entry
                    .command(command)
                    .is_some_and(|came| came.id == placed.id)
            })
        });
        std::future::ready(if asked {
            Ok(())
        } else {
            Err("neither".to_owned())
        })
    });
    cx.claim(SCHED_STOP_004).met(goes_on.await);
    Ok(())
}

async fn unanswered_start(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    host.script(Rule::on("workload.start", Act::LoseAnswer));
    host.script(Rule::on("workload.status", Act::Ignore).times(1));
    let app = cx.deployment("app", 1);
    cx.submit(&app).await?;
    let (_, came) = cx
        .started("app", cx.timings().act)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.withdraw(&app).await?;
    cx.claim(SCHED_STOP_006)
        .met(cx.stopped(&came.id, cx.timings().act).await);
    cx.pass(Duration::from_secs(1)).await;
    let mut order = Vec::new();
    for entry in cx.journal().entries() {
        for (command, word) in [("workload.start", "start"), ("workload.stop", "stop")] {
            if entry
                .command(command)
                .is_some_and(|other| other.id == came.id)
            {
                order.push(word);
            }
        }
    }
    let starts = order.iter().take_while(|word| **word == "start").count();
    let right = starts > 0 && order.iter().skip(starts).all(|word| *word == "stop");
    cx.claim(SCHED_STOP_007)
        .holds("first the start, then stops", right, || {
            format!("{order:?}")
        });
    Ok(())
}

async fn lost_host(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (set, _) = cx.deployed("app", 1, SCHED_SCALE_001).await?;
    host.cut_off();
    cx.withdraw(&set).await?;
    let within = cx.timings().notice + cx.timings().act + cx.timings().show;
    cx.claim(SCHED_STOP_008)
        .met(cx.says_gone(&set, within).await);
    Ok(())
}

async fn shown(cx: &ScenarioContext) -> Flow {
    let host = cx.host(cx.plan("a")).await?;
    let (set, _) = cx.deployed("app", 1, SCHED_SCALE_001).await?;
    cx.says_ready(&set, true, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    host.script(Rule::on("workload.stop", Act::Ignore));
    cx.withdraw(&set).await?;
    let there = cx.consistently(
        Duration::from_secs(3),
        "it is shown while it runs",
        || async { cx.observe(&set).await.map(|_| ()) },
    );
    cx.claim(SCHED_STOP_009).met(there.await);
    host.behave();
    let gone = cx
        .says_gone(&set, cx.timings().resend + cx.timings().show)
        .await;
    cx.claim(SCHED_STOP_009).met(gone);
    Ok(())
}

async fn for_good(cx: &ScenarioContext) -> Flow {
    cx.hosts::<2>().await?;
    let (set, _) = cx.deployed("app", 3, SCHED_SCALE_001).await?;
    let alone = cx.workload("alone");
    cx.submit(&alone).await?;
    cx.placed("alone", 1, SCHED_START_001).await?;
    cx.withdraw(&set).await?;
    cx.withdraw(&alone).await?;
    for id in cx.ids_of("app").union(&cx.ids_of("alone")) {
        cx.stopped(id, cx.timings().act)
            .await
            .or_blocked(cx, SCHED_STOP_001)?;
    }
    let before = cx.journal().starts().len();
    let again = cx.never(Duration::from_secs(4), "another start", || {
        let starts = cx.journal().starts();
        starts
            .get(before)
            .map(|(entry, came)| format!("{} on {}", came.id, entry.host))
    });
    cx.claim(SCHED_STOP_010).met(again.await);
    Ok(())
}
