//! Conditions of placement, as tables: each case pairs a host with a workload that selects this
//! host, and says whether the workload fits it.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{ScenarioContext, host_names};
use crate::scheduler::scenario::{Scenario, scenario};
use crate::scheduler::simulated_host::SimulatedHost;
use crate::spec::requirements::*;

/// Scenarios of the section `placement` that compare a host with a workload.
pub const SCENARIOS: &[Scenario] = &[
    scenario! {
        id: "placement/selector", run: selector, covers: [SCHED_PLACE_001], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "placement/environment", run: environment, covers: [SCHED_PLACE_006], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "placement/host-id", run: host_id, covers: [SCHED_PLACE_007, SCHED_PLACE_008],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/interfaces", run: interfaces,
        covers: [SCHED_PLACE_004, SCHED_PLACE_012, SCHED_PLACE_014], isolation: Shared,
        budget_s: 60,
    },
    scenario! {
        id: "placement/http", run: http, covers: [SCHED_PLACE_013, SCHED_PLACE_014],
        isolation: Shared, budget_s: 60,
    },
    scenario! {
        id: "placement/versions", run: versions, covers: [SCHED_PLACE_015], isolation: Shared,
        budget_s: 60,
    },
];

/// Time for which workloads that do not fit are observed.
const WINDOW: Duration = Duration::from_millis(2_500);
/// Longer time, in which a scheduler that relaxes a condition after a while starts the workload.
const LONG_WINDOW: Duration = Duration::from_secs(14);

/// A host, and a workload that selects it. In the values of both, `{group}` is the host group of
/// the scenario, `{id}` the id of the host, `{ID}` the same in capitals, and `{name}` its
/// `friendlyName`.
struct Case {
    requirement: Requirement,
    title: &'static str,
    /// Fields of the heartbeat; null removes a field, and `labels` are added.
    host: Value,
    /// Fields of the workload's spec; `hostSelector` is extended.
    spec: Value,
    fits: bool,
}

fn fit(requirement: Requirement, title: &'static str, host: &Value, spec: Value) -> Case {
    Case {
        requirement,
        title,
        host: host.clone(),
        spec,
        fits: true,
    }
}

fn misfit(requirement: Requirement, title: &'static str, host: &Value, spec: Value) -> Case {
    Case {
        fits: false,
        ..fit(requirement, title, host, spec)
    }
}

async fn selector(cx: &ScenarioContext) -> Flow {
    let zone = |value: &str| json!({ "hostSelector": { "zone": value } });
    let west = json!({ "labels": { "zone": "eu-west", "disk": "fast" } });
    let bare = json!({ "labels": { "disk": "fast" } });
    let (fits, misfits) = (
        |title, host, spec| fit(SCHED_PLACE_001, title, host, spec),
        |title, host, spec| misfit(SCHED_PLACE_001, title, host, spec),
    );
    let both = |zone: &str| json!({ "hostSelector": { "zone": zone, "disk": "fast" } });
    let cases = vec![
        fits("the label has this value", &west, zone("eu-west")),
        fits("both labels have these values", &west, both("eu-west")),
        misfits("one of two labels has another value", &west, both("us")),
        misfits("the value begins with the wanted value", &west, zone("eu")),
        misfits("the wanted value is longer", &west, zone("eu-west-1")),
        misfits("the value ends with the wanted value", &west, zone("west")),
        misfits("the value differs in case", &west, zone("EU-west")),
        misfits("the wanted value is empty", &west, zone("")),
        misfits("the label is missing", &bare, zone("eu-west")),
        misfits("one of two labels is missing", &bare, both("eu-west")),
        misfits(
            "the label is missing, and the wanted value is empty",
            &bare,
            zone(""),
        ),
        misfits(
            "the key of the label differs in case",
            &west,
            json!({ "hostSelector": { "Zone": "eu-west" } }),
        ),
    ];
    judge(cx, &cases, WINDOW).await
}

async fn environment(cx: &ScenarioContext) -> Flow {
    let of = |environment: &str| json!({ "environment": environment });
    let (prod, padded, none) = (of("prod"), of("prod "), json!({}));
    let (fits, misfits) = (
        |title, host, spec| fit(SCHED_PLACE_006, title, host, spec),
        |title, host, spec| misfit(SCHED_PLACE_006, title, host, spec),
    );
    let cases = vec![
        fits("the environments are equal", &prod, of("prod")),
        fits("the workload names no environment", &prod, json!({})),
        misfits("the environments differ", &prod, of("test")),
        misfits("the environments differ in case", &prod, of("Prod")),
        misfits("the host's environment is longer", &prod, of("pro")),
        misfits("the host's environment is shorter", &prod, of("prod2")),
        misfits("the workload's has a blank at its end", &prod, of("prod ")),
        misfits("the host's has a blank at its end", &padded, of("prod")),
        misfits("the host has no environment", &none, of("prod")),
    ];
    judge(cx, &cases, WINDOW).await
}

async fn host_id(cx: &ScenarioContext) -> Flow {
    let named = |host_id: &str| json!({ "hostId": host_id });
    let with = |field: &str, value: Value| json!({ "hostId": "{id}", field: value });
    let host = json!({ "environment": "test", "imports": [], "httpPort": null });
    let (fits, misfits, unlifted) = (
        |title, spec| fit(SCHED_PLACE_007, title, &host, spec),
        |title, spec| misfit(SCHED_PLACE_007, title, &host, spec),
        |title, spec| misfit(SCHED_PLACE_008, title, &host, spec),
    );
    let cases = vec![
        fits("the host is named by its id", named("{id}")),
        misfits("no host has this id", named("unknown-{group}")),
        misfits("the id is the host's friendlyName", named("{name}")),
        misfits("the id differs in case", named("{ID}")),
        misfits("the id is longer than the host's", named("{id}0")),
        unlifted(
            "the named host lacks a label",
            with("hostSelector", json!({ "zone": "x" })),
        ),
        unlifted(
            "the named host is of another environment",
            with("environment", json!("prod")),
        ),
        unlifted(
            "the named host does not offer an interface",
            with(
                "hostInterfaces",
                json!([entry("acme:queue", "", &["push"])]),
            ),
        ),
        unlifted(
            "the named host has no httpPort",
            with("hostInterfaces", json!([served("incoming-handler")])),
        ),
    ];
    judge(cx, &cases, WINDOW).await
}

/// Returns an interface of `package`, as `NAMESPACE:PACKAGE`; an empty `version` and empty `names`
/// are omitted.
fn entry(package: &str, version: &str, names: &[&str]) -> Value {
    let (namespace, package) = package.split_once(':').unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("namespace".to_owned(), json!(namespace));
    entry.insert("package".to_owned(), json!(package));
    if !version.is_empty() {
        entry.insert("version".to_owned(), json!(version));
    }
    if !names.is_empty() {
        entry.insert("interfaces".to_owned(), json!(names));
    }
    Value::Object(entry)
}

/// Returns an entry of `package` with a `name`, as workloads use for several entries of a package.
fn named_entry(name: &str, package: &str, names: &[&str]) -> Value {
    let mut entry = entry(package, "", names);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("name".to_owned(), json!(name));
    }
    entry
}

/// Returns a declaration of an interface of `wasi:http` that the host calls.
fn served(handler: &str) -> Value {
    let mut entry = entry("wasi:http", "", &[handler]);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("config".to_owned(), json!({ "host": "{group}.example" }));
    }
    entry
}

fn declaring(entries: &[Value]) -> Value {
    json!({ "hostInterfaces": entries })
}

async fn interfaces(cx: &ScenarioContext) -> Flow {
    let host = json!({
        "httpPort": null,
        "imports": [
            entry("acme:store", "", &["store"]),
            entry("acme:keyvalue", "", &["store"]),
            entry("acme:whole", "", &[]),
        ],
        "exports": [entry("acme:events", "", &["handler"])],
    });
    let declared = |package: &str, names: &[&str]| declaring(&[entry(package, "", names)]);
    let (fits, misfits) = (
        |title, spec| fit(SCHED_PLACE_004, title, &host, spec),
        |title, spec| misfit(SCHED_PLACE_012, title, &host, spec),
    );
    let mut cases = vec![
        fits("imports list it", declared("acme:store", &["store"])),
        fits("exports list it", declared("acme:events", &["handler"])),
        fits(
            "imports list its package without interfaces",
            declared("acme:whole", &["any"]),
        ),
        misfits("no package is offered", declared("acme:queue", &["push"])),
        misfits(
            "the package is offered by another namespace",
            declared("wasi:keyvalue", &["store"]),
        ),
        misfits(
            "the package has another interface",
            declared("acme:store", &["batch"]),
        ),
        misfits(
            "the second interface is not offered",
            declared("acme:store", &["store", "batch"]),
        ),
        misfits(
            "the first interface is not offered",
            declared("acme:store", &["batch", "store"]),
        ),
    ];
    let offered = named_entry("one", "acme:store", &["store"]);
    let missing = named_entry("two", "acme:store", &["batch"]);
    for (title, entries) in [
        (
            "the second declaration of a package is not offered",
            [offered.clone(), missing.clone()],
        ),
        (
            "the first declaration of a package is not offered",
            [missing, offered],
        ),
    ] {
        cases.push(misfits(title, declaring(&entries)));
    }
    for package in ["cli", "clocks", "filesystem", "io", "random", "sockets"] {
        let entry = entry(&format!("wasi:{package}"), "0.2.0", &["anything"]);
        cases.push(fit(
            SCHED_PLACE_014,
            "the package is part of the baseline",
            &host,
            declaring(&[entry]),
        ));
    }
    judge(cx, &cases, LONG_WINDOW).await
}

async fn http(cx: &ScenarioContext) -> Flow {
    let all = entry("wasi:http", "", &["incoming-handler", "handler", "types"]);
    let listed = json!({ "imports": [all], "exports": [all], "httpPort": null });
    let zero = json!({ "imports": [all], "exports": [all], "httpPort": 0 });
    let port = json!({ "imports": [], "exports": [], "httpPort": 8080 });
    let outgoing = entry("wasi:http", "", &["outgoing-handler"]);
    let mixed = entry("wasi:http", "", &["outgoing-handler", "incoming-handler"]);
    let (fits, misfits) = (
        |title, host, entries: &[Value]| fit(SCHED_PLACE_013, title, host, declaring(entries)),
        |title, host, entries: &[Value]| misfit(SCHED_PLACE_013, title, host, declaring(entries)),
    );
    let mut cases = vec![
        misfits(
            "the second of two entries needs an httpPort",
            &listed,
            &[outgoing.clone(), served("incoming-handler")],
        ),
        misfits(
            "the second of two interfaces needs an httpPort",
            &listed,
            &[mixed],
        ),
        fit(
            SCHED_PLACE_014,
            "outgoing requests need no httpPort",
            &listed,
            declaring(&[outgoing]),
        ),
    ];
    for handler in ["incoming-handler", "handler"] {
        let entries = [served(handler)];
        cases.push(fits("the host has an httpPort", &port, &entries));
        cases.push(misfits("the host has no httpPort", &listed, &entries));
        cases.push(misfits("the httpPort is zero", &zero, &entries));
    }
    judge(cx, &cases, WINDOW).await
}

/// Declared version, versions that the host offers, and whether the workload fits. An empty version
/// is unset.
const VERSIONS: &[(&str, &[&str], bool)] = &[
    ("", &["1.4.0"], true),
    ("1.4.0", &[""], true),
    ("1.2.0", &["1.4.0"], true),
    ("1.4.0", &["1.2.0"], true),
    ("1.4.0", &["2.0.0"], false),
    ("2.0.0", &["1.4.0"], false),
    ("1.0.0", &["10.0.0"], false),
    ("0.2.9", &["0.2.3"], true),
    ("0.2.0", &["0.2.3"], true),
    ("0.3.0", &["0.2.3"], false),
    ("1.2.0", &["0.2.0"], false),
    ("0.0.1", &["0.0.1"], true),
    ("0.0.1", &["0.0.2"], false),
    ("3.0.0-draft", &["3.0.0-draft"], true),
    ("3.0.0", &["3.0.0-draft"], false),
    ("3.0.0-draft", &["3.0.0"], false),
    ("0.2.0-draft", &["0.2.0-rc.1"], false),
    ("0.2.0", &["0.2.0", "1.0.0"], true),
    ("1.0.0", &["0.2.0", "1.0.0"], true),
    ("2.0.0", &["0.2.0", "1.0.0"], false),
];

async fn versions(cx: &ScenarioContext) -> Flow {
    let package = |index: usize| format!("acme:package{index}");
    let offers = VERSIONS.iter().enumerate().flat_map(|(index, case)| {
        let (_, offered, _) = case;
        offered
            .iter()
            .map(move |version| entry(&package(index), version, &["push"]))
    });
    let host = json!({ "imports": offers.collect::<Vec<_>>() });
    let cases: Vec<Case> = VERSIONS
        .iter()
        .enumerate()
        .map(|(index, (declared, _, fits))| Case {
            requirement: SCHED_PLACE_015,
            title: if *fits {
                "the versions are compatible"
            } else {
                "the versions are not compatible"
            },
            host: host.clone(),
            spec: declaring(&[entry(&package(index), declared, &["push"])]),
            fits: *fits,
        })
        .collect();
    judge(cx, &cases, WINDOW).await
}

/// Starts the hosts, submits the workload of each case, and checks that the workloads that fit run,
/// and that no other is started within `window`.
async fn judge(cx: &ScenarioContext, cases: &[Case], window: Duration) -> Flow {
    let hosts = start_hosts(cx, cases).await?;
    cx.wait_until_registered().await?;
    let mark = cx.scheduler().bus.tap().mark();
    let mut pairs = Vec::new();
    for (index, (case, host)) in cases.iter().zip(hosts).enumerate() {
        let app = format!("case{index}");
        submit(cx, &app, case, &host).await?;
        pairs.push((app, case, host));
    }
    let submitted_at = Instant::now();
    for (app, case, host) in pairs.iter().filter(|(_, case, _)| case.fits) {
        let description = format!("{}: the workload runs ({})", case.title, case.spec);
        let running = cx.eventually(cx.timings().act, &description, || {
            let hosts = host_names(&cx.running(app));
            std::future::ready(if hosts == [host.name()] {
                Ok(())
            } else {
                Err(format!("the workload runs on {hosts:?}"))
            })
        });
        cx.claim(case.requirement).met(running.await);
    }
    cx.wait(window.saturating_sub(submitted_at.elapsed())).await;
    for (app, case, host) in pairs.iter().filter(|(_, case, _)| !case.fits) {
        let start = cx.find_start(app, mark);
        let condition = format!("{}: no start", case.title);
        cx.claim(case.requirement)
            .holds(&condition, start.is_none(), || {
                let start = start.unwrap_or_default();
                format!("{start} ({} on {}: {})", case.spec, host.name(), case.host)
            });
    }
    Ok(())
}

/// Starts a host for each case; cases with equal hosts share one.
async fn start_hosts(cx: &ScenarioContext, cases: &[Case]) -> Result<Vec<SimulatedHost>, Blocked> {
    let mut started: Vec<(&Value, SimulatedHost)> = Vec::new();
    let mut hosts = Vec::new();
    for case in cases {
        let known = started.iter().find(|(fields, _)| **fields == case.host);
        if let Some((_, host)) = known {
            hosts.push(host.clone());
            continue;
        }
        let name = format!("h{}", started.len());
        let mut config = cx.host_config(&name).label("host", &name);
        config = config.heartbeat_field("friendlyName", json!(cx.name(&name)));
        for (field, value) in case.host.as_object().into_iter().flatten() {
            if field != "labels" {
                config = config.heartbeat_field(field, value.clone());
                continue;
            }
            for (label, value) in value.as_object().into_iter().flatten() {
                config = config.label(label, value.as_str().unwrap_or_default());
            }
        }
        let host = cx.start_host(config).await?;
        started.push((&case.host, host.clone()));
        hosts.push(host);
    }
    Ok(hosts)
}

/// Submits the workload of a case. The intake may refuse a workload that fits no host.
async fn submit(cx: &ScenarioContext, app: &str, case: &Case, host: &SimulatedHost) -> Flow {
    // A set would add objects to the load of the scheduler.
    let mut manifest = cx.workload(app);
    manifest = manifest.spec("/hostSelector/host", json!(host.name()));
    let spec = replaced(cx, &case.spec, host);
    for (field, value) in spec.as_object().into_iter().flatten() {
        if field != "hostSelector" {
            manifest = manifest.spec(&format!("/{field}"), value.clone());
            continue;
        }
        for (label, value) in value.as_object().into_iter().flatten() {
            manifest = manifest.spec(&format!("/hostSelector/{label}"), value.clone());
        }
    }
    match cx.try_submit(&manifest).await {
        Err(text) if case.fits => Err(Blocked::harness("cannot submit the object", text)),
        _ => Ok(()),
    }
}

/// Returns a value with its placeholders replaced.
fn replaced(cx: &ScenarioContext, value: &Value, host: &SimulatedHost) -> Value {
    let text = value
        .to_string()
        .replace("{group}", cx.group())
        .replace("{name}", &cx.name(&host.name()))
        .replace("{id}", &host.id())
        .replace("{ID}", &host.id().to_uppercase());
    serde_json::from_str(&text).unwrap_or_default()
}
