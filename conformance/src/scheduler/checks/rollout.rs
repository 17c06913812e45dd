//! Rollouts: from one template of a deployment to the next.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::check::wait::{ProbeError, Waited};
use crate::scheduler::context::{RunningWorkload, ScenarioContext, workload_ids};
use crate::scheduler::journal::{EventKind, running_counts_over_time};
use crate::scheduler::manifest::Manifest;
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::scheduler::timings::Timings;
use crate::spec::requirements::*;

/// Scenarios of the section `rollout`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "rollout/rolling-update", run: rolling_update,
        covers: [SCHED_ROLL_001, SCHED_ROLL_002, SCHED_ROLL_003, SCHED_ROLL_004], isolation: Shared,
        budget_s: 120,
    },
    scenario! {
        id: "rollout/changed-field", run: changed_field, covers: [SCHED_ROLL_001],
        isolation: Shared, budget_s: 90,
    },
    scenario! {
        id: "rollout/changed-while-down", run: changed_while_down, covers: [SCHED_ROLL_001],
        isolation: Own, needs: [Process], budget_s: 120,
    },
    scenario! {
        id: "rollout/rollback", run: rollback, covers: [SCHED_ROLL_009], isolation: Shared,
        budget_s: 120,
    },
    scenario! {
        id: "rollout/unknown-policy", run: unknown_policy, covers: [SCHED_ROLL_012],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "rollout/scaled-during-rollout", run: scaled_during_rollout, covers: [SCHED_ROLL_013],
        isolation: Shared, budget_s: 120,
    },
    scenario! {
        id: "rollout/scheduler-killed", run: scheduler_killed, covers: [SCHED_ROLL_014],
        isolation: Own, needs: [Process], budget_s: 120,
    },
];

/// Returns the maximum time of a rollout without progress: the time for one batch, in which a
/// scheduler that has just been launched starts a new replica, waits until it is ready, stops an
/// old one, and waits for its end.
fn max_pause(timings: &Timings) -> Duration {
    timings.reconnect + timings.act + timings.poll + timings.act + timings.resend
}

/// Returns the running workloads of one revision of an app.
pub(super) fn running_of_revision(
    cx: &ScenarioContext,
    app: &str,
    revision: u32,
) -> Vec<RunningWorkload> {
    let image = cx.image(app, revision);
    let has_image = |running: &RunningWorkload| {
        let workloads = running.host.workloads();
        let request = workloads
            .get(&running.id)
            .map(|workload| workload.request.to_string());
        request.is_some_and(|request| request.contains(&format!("{image}\"")))
    };
    cx.running(app).into_iter().filter(has_image).collect()
}

/// Calls [`wait_for_rollout_of`] for `app`.
pub(super) async fn wait_for_rollout(
    cx: &ScenarioContext,
    revision: u32,
    count: usize,
) -> Waited<()> {
    wait_for_rollout_of(cx, "app", revision, count).await
}

/// Waits until `count` workloads of a revision run, and no workload of another revision. Fails when
/// the rollout makes no progress for too long.
pub(super) async fn wait_for_rollout_of(
    cx: &ScenarioContext,
    app: &str,
    revision: u32,
    count: usize,
) -> Waited<()> {
    let description = format!("exactly {count} workloads of {app} run, all of revision {revision}");
    let max_pause = max_pause(cx.timings()) + cx.patience();
    let from = Instant::now();
    let batches = u32::try_from(count).unwrap_or(u32::MAX);
    cx.poll(max_pause * batches, &description, || {
        let (of_revision, all) = (
            running_of_revision(cx, app, revision).len(),
            cx.running(app).len(),
        );
        let entries = cx.journal().entries();
        let last_change = entries.iter().rfind(|entry| {
            matches!(
                entry.kind,
                EventKind::WorkloadRunning(_) | EventKind::WorkloadEnded(_)
            )
        });
        let last_change = last_change.map_or(from, |entry| entry.at.max(from));
        let observed = format!("{all} run, {of_revision} of this revision");
        std::future::ready(if of_revision == count && all == count {
            Ok(())
        } else if last_change.elapsed() > max_pause {
            Err(ProbeError::Unreachable(observed))
        } else {
            Err(ProbeError::Pending(observed))
        })
    })
    .await
}

/// Waits until a template has been tried: a workload with its image was started.
pub(super) async fn wait_until_tried(
    cx: &ScenarioContext,
    app: &str,
    revision: u32,
) -> Result<(), Blocked> {
    let image = cx.image(app, revision);
    let description = format!("revision {revision} of {app} is tried");
    let within = cx.timings().act + cx.timings().resend;
    let tried = cx.eventually(within, &description, || {
        let ids = cx.journal().started_ids_containing(&image);
        std::future::ready(if ids.is_empty() {
            Err("no start".to_owned())
        } else {
            Ok(())
        })
    });
    tried.await.or_blocked(cx, SCHED_ROLL_001)
}

/// Deploys an app whose starts take 250 ms, and waits until it is ready.
pub(super) async fn deploy_slowly(
    cx: &ScenarioContext,
    hosts: &[SimulatedHost],
    replicas: usize,
) -> Result<Manifest, Blocked> {
    for host in hosts {
        host.set_start_duration(Duration::from_millis(250));
    }
    let (set, _) = cx.deploy("app", replicas, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    Ok(set)
}

/// Sizes of deployments. The surge of the first three is rounded up to 1.
const SIZES: [usize; 4] = [1, 2, 3, 6];

/// Changes the template of deployments of several sizes, and checks for each that all replicas are
/// replaced, that none is missing at any time, and that the surge is within its limit.
async fn rolling_update(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<3>().await?;
    cx.wait_until_registered().await?;
    let updates = SIZES.map(|replicas| update(cx, &hosts, replicas));
    futures_util::future::try_join_all(updates).await?;
    Ok(())
}

async fn update(cx: &ScenarioContext, hosts: &[SimulatedHost], replicas: usize) -> Flow {
    let app = format!("app{replicas}");
    let (set, _) = cx.deploy(&app, replicas, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    let next = cx.image(&app, 2);
    for host in hosts {
        // A replica that is STARTING is not ready.
        let starting = Reaction::Starting(Duration::from_millis(500));
        host.add_rule(CommandRule::on("workload.start", starting).containing(&next));
    }
    let from = Instant::now();
    cx.submit(&set.image(&next)).await?;
    cx.claim(SCHED_ROLL_001)
        .met(wait_for_rollout_of(cx, &app, 2, replicas).await);
    let ids = cx.started_ids(&app);
    let entries = cx.journal().entries();
    let counts = running_counts_over_time(&entries, |id| ids.contains(id));
    let counts = counts.iter().filter(|(at, _)| *at > from);
    let min = counts.map(|(_, count)| *count).min().unwrap_or(replicas);
    cx.claim(SCHED_ROLL_002).holds(
        &format!("at least {replicas} replicas run at any time"),
        min >= replicas,
        || format!("only {min} ran at one time"),
    );
    let max = cx.max_wanted_ids(&app);
    cx.claim(SCHED_ROLL_003).holds(
        &format!("at most {replicas} replicas and a surge of {replicas} are wanted"),
        max <= 2 * replicas,
        || format!("up to {max} were wanted"),
    );
    let surge = replicas.div_ceil(4);
    cx.claim(SCHED_ROLL_004).holds(
        &format!("the surge of {replicas} replicas is at most {surge}"),
        max <= replicas + surge,
        || format!("the surge was {}", max - replicas),
    );
    Ok(())
}

/// Changes one field of each of several templates, and checks that each change replaces the
/// replica.
async fn changed_field(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a").label("disk", "fast"))
        .await?;
    cx.wait_until_registered().await?;
    let changes: Vec<(usize, Change)> = changes().into_iter().enumerate().collect();
    // A few at a time, so that the scheduler has no more to do than in other scenarios.
    for group in changes.chunks(3) {
        let changes = group.iter().cloned();
        let changes =
            changes.map(|(number, change)| change_field(cx, format!("app{number}"), change));
        futures_util::future::try_join_all(changes).await?;
    }
    Ok(())
}

/// Change of a template: its name, and the fields before and after it.
type Change = (&'static str, Value, Value);

fn changes() -> Vec<Change> {
    let resources = "/components/0/localResources";
    let volume = json!([{ "name": "data", "ephemeral": {} }]);
    let mount = |path: &str| json!([{ "name": "data", "mountPath": path }]);
    let store = |bucket: &str| json!([{ "namespace": "wasi", "package": "keyvalue", "interfaces": ["store"], "config": { "bucket": bucket } }]);
    let field = |pointer: String, value: Value| json!({ pointer: value });
    let of_resources = |name: &str, value: Value| field(format!("{resources}/{name}"), value);
    vec![
        (
            "a pull policy",
            field("/components/0/imagePullPolicy".to_owned(), json!("Always")),
            field("/components/0/imagePullPolicy".to_owned(), json!("Never")),
        ),
        (
            "a pool size",
            field("/components/0/poolSize".to_owned(), json!(1)),
            field("/components/0/poolSize".to_owned(), json!(2)),
        ),
        (
            "an environment variable",
            of_resources("environment/config/A", json!("1")),
            of_resources("environment/config/A", json!("2")),
        ),
        (
            "a value of the configuration",
            of_resources("config/A", json!("1")),
            of_resources("config/A", json!("2")),
        ),
        (
            "an allowed host",
            of_resources("allowedHosts", json!(["a.example"])),
            of_resources("allowedHosts", json!(["b.example"])),
        ),
        (
            "a volume",
            json!({ "/volumes": volume }),
            json!({ "/volumes": [{ "name": "data", "hostPath": { "path": "/srv/data" } }] }),
        ),
        (
            "a volume mount",
            json!({ "/volumes": volume, format!("{resources}/volumeMounts"): mount("/a") }),
            json!({ "/volumes": volume, format!("{resources}/volumeMounts"): mount("/b") }),
        ),
        (
            "a service",
            json!({ "/service": { "image": "registry.invalid/s:1", "maxRestarts": 1 } }),
            json!({ "/service": { "image": "registry.invalid/s:1", "maxRestarts": 2 } }),
        ),
        (
            "the configuration of an interface",
            json!({ "/hostInterfaces": store("a") }),
            json!({ "/hostInterfaces": store("b") }),
        ),
        (
            "the host selector",
            json!({}),
            json!({ "/hostSelector/disk": "fast" }),
        ),
        (
            "a component",
            json!({}),
            json!({ "/components/1": { "name": "second", "image": "registry.invalid/c:1" } }),
        ),
    ]
}

async fn change_field(cx: &ScenarioContext, app: String, (name, from, to): Change) -> Flow {
    let with = |fields: &Value| {
        let mut manifest = cx.deployment(&app, 1);
        for (pointer, value) in fields.as_object().into_iter().flatten() {
            manifest = manifest.spec(pointer, value.clone());
        }
        manifest
    };
    cx.submit(&with(&from)).await?;
    let before = cx.require_running(&app, 1, SCHED_SCALE_001).await?;
    let before = workload_ids(&before);
    cx.submit(&with(&to)).await?;
    let description = format!("a change of {name} replaces the replica");
    let replaced = cx.eventually(max_pause(cx.timings()), &description, || {
        let now = workload_ids(&cx.running(&app));
        std::future::ready(if now.len() == 1 && now.is_disjoint(&before) {
            Ok(())
        } else {
            Err(format!("{now:?} run"))
        })
    });
    cx.claim(SCHED_ROLL_001).met(replaced.await);
    Ok(())
}

/// Changes the template while the scheduler is down, and checks that the scheduler rolls the change
/// out when it is back.
async fn changed_while_down(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let set = cx.deployment("app", 2);
    cx.submit(&set).await?;
    let within = cx.timings().act + cx.timings().reconnect;
    cx.wait_for_running("app", 2, within)
        .await
        .or_blocked(cx, SCHED_SCALE_001)?;
    cx.kill_scheduler().await;
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    cx.launch_scheduler()?;
    cx.claim(SCHED_ROLL_001)
        .met(wait_for_rollout(cx, 2, 2).await);
    Ok(())
}

/// Rolls out a second template, and checks that a return to the first one is rolled out as well.
async fn rollback(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<2>().await?;
    let set = deploy_slowly(cx, &hosts, 4).await?;
    cx.submit(&set.clone().image(&cx.image("app", 2))).await?;
    wait_for_rollout(cx, 2, 4)
        .await
        .or_blocked(cx, SCHED_ROLL_001)?;
    cx.submit(&set).await?;
    cx.claim(SCHED_ROLL_009)
        .met(wait_for_rollout(cx, 1, 4).await);
    Ok(())
}

/// Values of `deployPolicy` that are no policy.
const UNKNOWN_POLICIES: [&str; 4] = ["BlueGreen", "recreate", "rollingupdate", "Recreate "];

/// Submits deployments with unknown policies, and checks that they are not started. Submits such
/// changes of a deployment, and checks that nothing is started or stopped.
async fn unknown_policy(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<2>().await?;
    let (set, _) = cx.deploy("known", 2, SCHED_SCALE_001).await?;
    let with =
        |manifest: Manifest, policy: &str| manifest.with("/spec/deployPolicy", json!(policy));
    for policy in UNKNOWN_POLICIES {
        let from = Instant::now();
        let changed = with(set.clone().image(&cx.image("known", 2)), policy);
        // The intake may refuse the manifests.
        let _ = cx.try_submit(&changed).await;
        let _ = cx.try_submit(&with(cx.deployment("app", 2), policy)).await;
        cx.assert_no_commands(SCHED_ROLL_012, from, Duration::from_secs(2))
            .await;
    }
    Ok(())
}

/// Changes the number of replicas during a rollout, and checks that the rollout ends with the new
/// number, all of the new template.
async fn scaled_during_rollout(cx: &ScenarioContext) -> Flow {
    for host in cx.start_hosts::<2>().await? {
        host.set_start_duration(Duration::from_millis(250));
    }
    cx.wait_until_registered().await?;
    let grown = scale_during_rollout(cx, "grown", 6);
    let shrunk = scale_during_rollout(cx, "shrunk", 2);
    futures_util::future::try_join(grown, shrunk).await?;
    Ok(())
}

async fn scale_during_rollout(cx: &ScenarioContext, app: &str, replicas: usize) -> Flow {
    let (set, _) = cx.deploy(app, 4, SCHED_SCALE_001).await?;
    cx.wait_for_ready(&set, cx.timings().show)
        .await
        .or_blocked(cx, SCHED_CRD_011)?;
    let next = set.image(&cx.image(app, 2));
    cx.submit(&next).await?;
    wait_until_tried(cx, app, 2).await?;
    let scaled = i64::try_from(replicas).unwrap_or(i64::MAX);
    cx.submit(&next.replicas(scaled)).await?;
    cx.claim(SCHED_ROLL_013)
        .met(wait_for_rollout_of(cx, app, 2, replicas).await);
    Ok(())
}

/// Kills and relaunches the scheduler during a rollout, and checks that it finishes the rollout and
/// leaves no other replica.
async fn scheduler_killed(cx: &ScenarioContext) -> Flow {
    let hosts = cx.start_hosts::<3>().await?;
    let set = deploy_slowly(cx, &hosts, 6).await?;
    cx.submit(&set.image(&cx.image("app", 2))).await?;
    wait_until_tried(cx, "app", 2).await?;
    cx.kill_scheduler().await;
    cx.launch_scheduler()?;
    cx.claim(SCHED_ROLL_014)
        .met(wait_for_rollout(cx, 2, 6).await);
    let unchanged = cx.consistently(Duration::from_secs(2), "exactly 6 workloads run", || {
        let running = cx.running_anywhere("app").len();
        std::future::ready(if running == 6 {
            Ok(())
        } else {
            Err(format!("{running} run"))
        })
    });
    cx.claim(SCHED_ROLL_014).met(unchanged.await);
    Ok(())
}
