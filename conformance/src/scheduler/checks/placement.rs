//! Placement: which hosts a workload may run on, and what is done while there is none.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, hosts_of};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::HostFlavor;
use crate::spec::requirements::*;

/// The section.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "place/selector", run: selector, covers: [SCHED_PLACE_001], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "place/waits", run: waits,
        covers: [SCHED_PLACE_002, SCHED_PLACE_003, SCHED_PLACE_004, SCHED_PLACE_005],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "place/environment", run: environment, covers: [SCHED_PLACE_006], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "place/pin", run: pin, covers: [SCHED_PLACE_007, SCHED_PLACE_008], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "place/pin-is-no-id", run: pin_is_no_id, covers: [SCHED_PLACE_009], isolation: Shared,
        needs: [Tap], budget_s: 40,
    },
    scenario! {
        id: "place/spread", run: spread, covers: [SCHED_PLACE_010], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "place/load", run: load, covers: [SCHED_PLACE_011], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "place/interfaces", run: interfaces, covers: [SCHED_PLACE_012, SCHED_PLACE_014],
        isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "place/http", run: http, covers: [SCHED_PLACE_013], isolation: Shared, budget_s: 40,
    },
    scenario! {
        id: "place/versions", run: versions, covers: [SCHED_PLACE_015], isolation: Shared,
        budget_s: 40,
    },
    scenario! {
        id: "place/stays", run: stays, covers: [SCHED_PLACE_016], isolation: Shared, budget_s: 40,
    },
];

/// Waits until an app runs where it must, and nowhere else.
async fn runs_on(
    cx: &ScenarioContext,
    requirement: Requirement,
    app: &str,
    count: usize,
    host: &str,
) -> Result<(), Blocked> {
    let placed = cx.runs(app, count, cx.timings().act).await;
    if let Some(placed) = cx.claim(requirement).met(placed) {
        let expected = vec![host.to_owned(); count];
        cx.claim(requirement)
            .is(&format!("where {app} runs"), hosts_of(&placed), expected);
    }
    Ok(())
}

async fn selector(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a").label("zone", "a")).await?;
    cx.host(cx.plan("b").label("zone", "b").label("disk", "fast"))
        .await?;
    cx.host(cx.plan("c").label("disk", "fast")).await?;
    let app = cx
        .deployment("app", 3)
        .spec("/hostSelector/zone", json!("b"))
        .spec("/hostSelector/disk", json!("fast"));
    cx.submit(&app).await?;
    runs_on(cx, SCHED_PLACE_001, "app", 3, "b").await
}

async fn waits(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let app = cx
        .deployment("app", 1)
        .spec("/hostSelector/zone", json!("b"));
    cx.submit(&app).await?;
    cx.no_start(SCHED_PLACE_002, "app").await;
    let reason = cx.eventually(cx.timings().show, "a reason is shown", || async {
        let object = cx.observe(&app).await?;
        let ready = crate::scheduler::context::condition(&object, "Ready")
            .cloned()
            .unwrap_or_default();
        let message = ready
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match ready.get("status").and_then(Value::as_str) {
            Some("True") => Err("it is shown as ready".to_owned()),
            _ if message.trim().is_empty() => Err(format!("the condition Ready is {ready}")),
            _ => Ok(()),
        }
    });
    cx.claim(SCHED_PLACE_003).met(reason.await);
    cx.host(cx.plan("b").label("zone", "b")).await?;
    let register = cx.timings().register;
    let placed = cx.runs("app", 1, cx.timings().act + register).await;
    cx.claim(SCHED_PLACE_004).met(placed);
    let more = cx.never(Duration::from_secs(1), "another start", || {
        let ids = cx.ids_of("app").len();
        (ids > 1).then(|| format!("{ids} ids were started"))
    });
    cx.claim(SCHED_PLACE_005).met(more.await);
    Ok(())
}

async fn environment(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a").fact("environment", json!("test")))
        .await?;
    cx.host(cx.plan("b").fact("environment", json!("prod")))
        .await?;
    cx.host(cx.plan("c")).await?;
    cx.submit(&cx.deployment("app", 3).spec("/environment", json!("prod")))
        .await?;
    runs_on(cx, SCHED_PLACE_006, "app", 3, "b").await?;
    cx.submit(&cx.deployment("other", 1).spec("/environment", json!("pro")))
        .await?;
    cx.no_start(SCHED_PLACE_006, "other").await;
    Ok(())
}

async fn pin(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let b = cx.host(cx.plan("b")).await?;
    cx.host(cx.plan("c")).await?;
    cx.submit(&cx.deployment("app", 3).spec("/hostId", json!(b.id())))
        .await?;
    runs_on(cx, SCHED_PLACE_007, "app", 3, "b").await?;
    let nobody = format!("nobody-{}", cx.group());
    cx.submit(&cx.deployment("lost", 1).spec("/hostId", json!(nobody)))
        .await?;
    let strange = cx
        .deployment("strange", 1)
        .spec("/hostId", json!(b.id()))
        .spec("/hostSelector/zone", json!("x"));
    cx.submit(&strange).await?;
    cx.no_start(SCHED_PLACE_007, "lost").await;
    cx.no_start(SCHED_PLACE_008, "strange").await;
    Ok(())
}

async fn pin_is_no_id(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    let mark = cx.live().bus.tap().mark();
    for (index, pin) in ["a.b", "*", ">", "two words", "tab\tbed"]
        .iter()
        .enumerate()
    {
        let app = format!("app{index}");
        // A refusal at the intake is right, too.
        let _ = cx
            .try_submit(&cx.deployment(&app, 1).spec("/hostId", json!(pin)))
            .await;
    }
    let group = format!("/{}/", cx.group());
    let published = || {
        let frames = cx.live().bus.tap().frames_since(mark);
        let mut ours = frames.iter().filter(|frame| {
            frame.kind == crate::testbed::tap::Kind::Publish
                && crate::scheduler::journal::contains(&frame.payload, &group)
        });
        ours.next().map(|frame| {
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
            "something published for them",
            published,
        )
        .await;
    cx.claim(SCHED_PLACE_009).met(waited);
    Ok(())
}

async fn spread(cx: &ScenarioContext) -> Flow {
    cx.hosts::<3>().await?;
    cx.all_registered().await?;
    let (_, placed) = cx.deployed("app", 6, SCHED_SCALE_001).await?;
    let expected = ["a", "a", "b", "b", "c", "c"].map(str::to_owned).to_vec();
    cx.claim(SCHED_PLACE_010)
        .is("where 6 replicas run", hosts_of(&placed), expected);
    Ok(())
}

async fn load(cx: &ScenarioContext) -> Flow {
    cx.host(
        cx.plan("a")
            .fact("systemCpuUsage", json!(99.0))
            .fact("systemMemoryFree", json!("4000000")),
    )
    .await?;
    cx.host(cx.plan("b")).await?;
    cx.all_registered().await?;
    let (_, one) = cx.deployed("one", 1, SCHED_SCALE_001).await?;
    let (_, other) = cx.deployed("other", 1, SCHED_SCALE_001).await?;
    let placed = [hosts_of(&one), hosts_of(&other)].concat();
    cx.claim(SCHED_PLACE_011).is(
        "where two workloads run",
        placed,
        vec!["b".to_owned(), "b".to_owned()],
    );
    Ok(())
}

fn interface(package: &str, version: &str, name: &str) -> Value {
    let (namespace, package) = package.split_once(':').unwrap_or_default();
    let mut interface = json!({ "namespace": namespace, "package": package, "interfaces": [name] });
    if let (Some(interface), false) = (interface.as_object_mut(), version.is_empty()) {
        interface.insert("version".to_owned(), json!(version));
    }
    interface
}

async fn interfaces(cx: &ScenarioContext) -> Flow {
    let queue = interface("acme:queue", "1.0.0", "push");
    cx.host(cx.plan("a")).await?;
    cx.host(cx.plan("b").fact("imports", json!([queue])))
        .await?;
    cx.submit(
        &cx.deployment("app", 3)
            .spec("/hostInterfaces", json!([queue])),
    )
    .await?;
    runs_on(cx, SCHED_PLACE_012, "app", 3, "b").await?;
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
    let placed = cx.runs("plain", 2, cx.timings().act).await;
    cx.claim(SCHED_PLACE_014).met(placed);
    Ok(())
}

async fn http(cx: &ScenarioContext) -> Flow {
    let incoming = interface("wasi:http", "0.2.0", "incoming-handler");
    cx.host(
        cx.plan("a")
            .fact("httpPort", Value::Null)
            .fact("imports", json!([incoming])),
    )
    .await?;
    cx.host(cx.plan("b").look(HostFlavor::Wash)).await?;
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
    runs_on(cx, SCHED_PLACE_013, "app", 3, "b").await
}

async fn versions(cx: &ScenarioContext) -> Flow {
    let offers = |version: &str| json!([interface("acme:queue", version, "push")]);
    cx.host(cx.plan("old").fact("imports", offers("1.4.0")))
        .await?;
    cx.host(cx.plan("new").fact("imports", offers("2.0.0")))
        .await?;
    cx.host(cx.plan("draft").fact("imports", offers("3.0.0-draft")))
        .await?;
    cx.host(cx.plan("zero").fact("imports", offers("0.2.3")))
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
        runs_on(cx, SCHED_PLACE_015, app, 2, host).await?;
    }
    for (app, version) in [("five", "3.0.0"), ("six", "0.3.0")] {
        let declared = json!([interface("acme:queue", version, "push")]);
        cx.submit(&cx.deployment(app, 1).spec("/hostInterfaces", declared))
            .await?;
    }
    cx.no_start(SCHED_PLACE_015, "five").await;
    cx.no_start(SCHED_PLACE_015, "six").await;
    Ok(())
}

async fn stays(cx: &ScenarioContext) -> Flow {
    cx.host(cx.plan("a")).await?;
    cx.deployed("app", 4, SCHED_SCALE_001).await?;
    let from = std::time::Instant::now();
    cx.host(cx.plan("b")).await?;
    let moved = cx.never(Duration::from_secs(3), "a start or a stop", || {
        cx.journal().orders_since(from).into_iter().next()
    });
    cx.claim(SCHED_PLACE_016).met(moved.await);
    Ok(())
}
