//! Placement: the hosts on which a workload may run, and workloads without such a host.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, host_names};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::HostFlavor;
use crate::spec::requirements::*;

/// Scenarios of the section `placement`.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "placement/selector", run: selector, covers: [SCHED_PLACE_001], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "placement/no-feasible-host", run: no_feasible_host,
        covers: [SCHED_PLACE_002, SCHED_PLACE_003, SCHED_PLACE_004, SCHED_PLACE_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/environment", run: environment, covers: [SCHED_PLACE_006], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "placement/host-id", run: host_id, covers: [SCHED_PLACE_007, SCHED_PLACE_008],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "placement/invalid-host-id", run: invalid_host_id, covers: [SCHED_PLACE_009],
        isolation: Shared, needs: [Tap], budget_s: 40,
    },
    scenario! {
        id: "placement/spread", run: spread, covers: [SCHED_PLACE_010], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "placement/load", run: load, covers: [SCHED_PLACE_011], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "placement/interfaces", run: interfaces, covers: [SCHED_PLACE_012, SCHED_PLACE_014],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "placement/http", run: http, covers: [SCHED_PLACE_013], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "placement/versions", run: versions, covers: [SCHED_PLACE_015], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "placement/no-rebalancing", run: no_rebalancing, covers: [SCHED_PLACE_016],
        isolation: Shared, budget_s: 40,
    },
];

/// Checks that `count` workloads of an app run, all of them on `host`.
async fn check_runs_on(
    cx: &ScenarioContext,
    requirement: Requirement,
    app: &str,
    count: usize,
    host: &str,
) -> Result<(), Blocked> {
    let running = cx.wait_for_running(app, count, cx.timings().act).await;
    if let Some(running) = cx.claim(requirement).met(running) {
        let expected = vec![host.to_owned(); count];
        cx.claim(requirement)
            .is(&format!("hosts of {app}"), host_names(&running), expected);
    }
    Ok(())
}

/// Submits an app whose host selector has two labels, and checks that it runs only on the host with
/// both.
async fn selector(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a").label("zone", "a"))
        .await?;
    cx.start_host(cx.host_config("b").label("zone", "b").label("disk", "fast"))
        .await?;
    cx.start_host(cx.host_config("c").label("disk", "fast"))
        .await?;
    let app = cx
        .deployment("app", 3)
        .spec("/hostSelector/zone", json!("b"))
        .spec("/hostSelector/disk", json!("fast"));
    cx.submit(&app).await?;
    check_runs_on(cx, SCHED_PLACE_001, "app", 3, "b").await
}

/// Submits an app that fits no host, and checks that it waits with a reason and is started once
/// when a fitting host joins.
async fn no_feasible_host(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&app).await?;
    cx.assert_no_start(SCHED_PLACE_002, "app").await;
    let reason = cx.eventually(cx.timings().show, "a reason is reported", || async {
        let object = cx.observe(&app).await?;
        let ready = crate::scheduler::context::condition(&object, "Ready")
            .cloned()
            .unwrap_or_default();
        let message = ready
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match ready.get("status").and_then(Value::as_str) {
            Some("True") => Err("the app is reported as ready".to_owned()),
            _ if message.trim().is_empty() => Err(format!("the condition Ready is {ready}")),
            _ => Ok(()),
        }
    });
    cx.claim(SCHED_PLACE_003).met(reason.await);
    cx.start_host(cx.host_config("b").label("zone", "b"))
        .await?;
    let register = cx.timings().register;
    let running = cx
        .wait_for_running("app", 1, cx.timings().act + register)
        .await;
    cx.claim(SCHED_PLACE_004).met(running);
    let another = cx.never(Duration::from_secs(1), "a start under another id", || {
        let ids = cx.started_ids("app").len();
        (ids > 1).then(|| format!("{ids} ids were started"))
    });
    cx.claim(SCHED_PLACE_005).met(another.await);
    Ok(())
}

/// Submits apps that name an environment, and checks that they run only on hosts of that
/// environment.
async fn environment(cx: &ScenarioContext) -> Flow {
    cx.start_host(
        cx.host_config("a")
            .heartbeat_field("environment", json!("test")),
    )
    .await?;
    cx.start_host(
        cx.host_config("b")
            .heartbeat_field("environment", json!("prod")),
    )
    .await?;
    cx.start_host(cx.host_config("c")).await?;
    cx.submit(&cx.deployment("app", 3).spec("/environment", json!("prod")))
        .await?;
    check_runs_on(cx, SCHED_PLACE_006, "app", 3, "b").await?;
    cx.submit(&cx.deployment("other", 1).spec("/environment", json!("pro")))
        .await?;
    cx.assert_no_start(SCHED_PLACE_006, "other").await;
    Ok(())
}

/// Submits apps that name a host, and checks that they run only on this host, and only if their
/// other conditions permit it.
async fn host_id(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let b = cx.start_host(cx.host_config("b")).await?;
    cx.start_host(cx.host_config("c")).await?;
    cx.submit(&cx.deployment("app", 3).spec("/hostId", json!(b.id())))
        .await?;
    check_runs_on(cx, SCHED_PLACE_007, "app", 3, "b").await?;
    let unknown = format!("unknown-{}", cx.group());
    cx.submit(&cx.deployment("unknown", 1).spec("/hostId", json!(unknown)))
        .await?;
    let mismatched = cx
        .deployment("mismatched", 1)
        .spec("/hostId", json!(b.id()))
        .spec("/hostSelector/zone", json!("x"));
    cx.submit(&mismatched).await?;
    cx.assert_no_start(SCHED_PLACE_007, "unknown").await;
    cx.assert_no_start(SCHED_PLACE_008, "mismatched").await;
    Ok(())
}

/// A `hostId` that is not a subject token must not become part of a subject.
async fn invalid_host_id(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    let mark = cx.scheduler().bus.tap().mark();
    for (index, host_id) in ["a.b", "*", ">", "two words", "tab\tbed"]
        .iter()
        .enumerate()
    {
        let app = format!("app{index}");
        // The intake may refuse the manifest.
        let _ = cx
            .try_submit(&cx.deployment(&app, 1).spec("/hostId", json!(host_id)))
            .await;
    }
    let group = format!("/{}/", cx.group());
    let published = || {
        let frames = cx.scheduler().bus.tap().frames_since(mark);
        let mut of_group = frames.iter().filter(|frame| {
            frame.kind == crate::testbed::tap::FrameKind::Publish
                && crate::scheduler::journal::contains(&frame.payload, &group)
        });
        of_group.next().map(|frame| {
            frame
                .subject
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        })
    };
    let waited = cx
        .never(
            Duration::from_millis(2_500),
            "a message for one of these workloads",
            published,
        )
        .await;
    cx.claim(SCHED_PLACE_009).met(waited);
    Ok(())
}

/// Deploys 6 replicas on 3 identical hosts, and checks that each host runs 2 of them.
async fn spread(cx: &ScenarioContext) -> Flow {
    cx.start_hosts::<3>().await?;
    cx.wait_until_registered().await?;
    let (_, running) = cx.deploy("app", 6, SCHED_SCALE_001).await?;
    let expected = ["a", "a", "b", "b", "c", "c"].map(str::to_owned).to_vec();
    cx.claim(SCHED_PLACE_010)
        .is("hosts of 6 replicas", host_names(&running), expected);
    Ok(())
}

/// Starts an overloaded and an idle host, and checks that workloads run on the idle host.
async fn load(cx: &ScenarioContext) -> Flow {
    cx.start_host(
        cx.host_config("a")
            .heartbeat_field("systemCpuUsage", json!(99.0))
            .heartbeat_field("systemMemoryFree", json!("4000000")),
    )
    .await?;
    cx.start_host(cx.host_config("b")).await?;
    cx.wait_until_registered().await?;
    let (_, one) = cx.deploy("one", 1, SCHED_SCALE_001).await?;
    let (_, other) = cx.deploy("other", 1, SCHED_SCALE_001).await?;
    let hosts = [host_names(&one), host_names(&other)].concat();
    cx.claim(SCHED_PLACE_011).is(
        "hosts of two workloads",
        hosts,
        vec!["b".to_owned(), "b".to_owned()],
    );
    Ok(())
}

/// Returns an interface of `package`, as `NAMESPACE:PACKAGE`; an empty `version` is omitted.
fn interface(package: &str, version: &str, name: &str) -> Value {
    let (namespace, package) = package.split_once(':').unwrap_or_default();
    let mut interface = json!({ "namespace": namespace, "package": package, "interfaces": [name] });
    if let (Some(interface), false) = (interface.as_object_mut(), version.is_empty()) {
        interface.insert("version".to_owned(), json!(version));
    }
    interface
}

/// Submits an app that declares an interface, and checks that it runs only on the host that offers
/// it, and that packages of the baseline need not be offered.
async fn interfaces(cx: &ScenarioContext) -> Flow {
    let queue = interface("acme:queue", "1.0.0", "push");
    cx.start_host(cx.host_config("a")).await?;
    cx.start_host(
        cx.host_config("b")
            .heartbeat_field("imports", json!([queue])),
    )
    .await?;
    cx.submit(
        &cx.deployment("app", 3)
            .spec("/hostInterfaces", json!([queue])),
    )
    .await?;
    check_runs_on(cx, SCHED_PLACE_012, "app", 3, "b").await?;
    let baseline = ["cli", "clocks", "filesystem", "io", "random", "sockets"];
    let baseline: Vec<Value> = baseline
        .iter()
        .map(|name| interface(&format!("wasi:{name}"), "0.2.0", "anything"))
        .collect();
    cx.submit(
        &cx.deployment("plain", 2)
            .spec("/hostInterfaces", json!(baseline)),
    )
    .await?;
    let running = cx.wait_for_running("plain", 2, cx.timings().act).await;
    cx.claim(SCHED_PLACE_014).met(running);
    Ok(())
}

/// Submits an app that declares `wasi:http`, and checks that it runs on the host with an
/// `httpPort`, not on the host that lists `wasi:http` in its imports.
async fn http(cx: &ScenarioContext) -> Flow {
    let incoming = interface("wasi:http", "0.2.0", "incoming-handler");
    cx.start_host(
        cx.host_config("a")
            .heartbeat_field("httpPort", Value::Null)
            .heartbeat_field("imports", json!([incoming])),
    )
    .await?;
    cx.start_host(cx.host_config("b").flavor(HostFlavor::Wash))
        .await?;
    let mut declared = incoming;
    if let Some(declared) = declared.as_object_mut() {
        declared.insert(
            "config".to_owned(),
            json!({ "host": format!("{}.example", cx.group()) }),
        );
    }
    cx.submit(
        &cx.deployment("app", 3)
            .spec("/hostInterfaces", json!([declared])),
    )
    .await?;
    check_runs_on(cx, SCHED_PLACE_013, "app", 3, "b").await
}

/// Submits apps that declare versions of an interface, and checks that each runs only on a host
/// with a compatible version.
async fn versions(cx: &ScenarioContext) -> Flow {
    let offers = |version: &str| json!([interface("acme:queue", version, "push")]);
    cx.start_host(
        cx.host_config("old")
            .heartbeat_field("imports", offers("1.4.0")),
    )
    .await?;
    cx.start_host(
        cx.host_config("new")
            .heartbeat_field("imports", offers("2.0.0")),
    )
    .await?;
    cx.start_host(
        cx.host_config("draft")
            .heartbeat_field("imports", offers("3.0.0-draft")),
    )
    .await?;
    cx.start_host(
        cx.host_config("zero")
            .heartbeat_field("imports", offers("0.2.3")),
    )
    .await?;
    for (app, version, host) in [
        ("one", "1.2.0", "old"),
        ("two", "2.0.0", "new"),
        ("three", "3.0.0-draft", "draft"),
        ("four", "0.2.9", "zero"),
    ] {
        let declared = json!([interface("acme:queue", version, "push")]);
        cx.submit(&cx.deployment(app, 2).spec("/hostInterfaces", declared))
            .await?;
        check_runs_on(cx, SCHED_PLACE_015, app, 2, host).await?;
    }
    for (app, version) in [("five", "3.0.0"), ("six", "0.3.0")] {
        let declared = json!([interface("acme:queue", version, "push")]);
        cx.submit(&cx.deployment(app, 1).spec("/hostInterfaces", declared))
            .await?;
    }
    cx.assert_no_start(SCHED_PLACE_015, "five").await;
    cx.assert_no_start(SCHED_PLACE_015, "six").await;
    Ok(())
}

/// A new host joins. Running workloads must not move to it.
async fn no_rebalancing(cx: &ScenarioContext) -> Flow {
    cx.start_host(cx.host_config("a")).await?;
    cx.deploy("app", 4, SCHED_SCALE_001).await?;
    let from = std::time::Instant::now();
    cx.start_host(cx.host_config("b")).await?;
    let moved = cx.never(Duration::from_secs(3), "a start or a stop", || {
        cx.journal().starts_and_stops_since(from).into_iter().next()
    });
    cx.claim(SCHED_PLACE_016).met(moved.await);
    Ok(())
}
