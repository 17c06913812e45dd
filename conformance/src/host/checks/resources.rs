//! Resource checks: limits, environment, configuration, and spinning guests.

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::State;

/// Checks of the section `resources`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/memory-limit", run: memory_limit, covers: [HOST_RES_001], host: Shared,
        roles: [HttpAlloc, Idle], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/default-memory", run: default_memory, covers: [HOST_RES_002], host: Shared,
        roles: [HttpAlloc], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unbounded-allocation", run: unbounded_allocation, covers: [HOST_RES_003],
        host: Own, roles: [HttpAlloc, Hello], needs: [Ingress, Registry], budget_s: 120,
        slow: false,
    },
    check! {
        id: "resources/environment", run: environment, covers: [HOST_RES_004], host: Shared,
        roles: [HttpEnv, Idle], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/spin", run: spin, covers: [HOST_RES_015], host: Own, roles: [ServiceSpin],
        needs: [Registry, Process], budget_s: 120, slow: false,
    },
    check! {
        id: "resources/config", run: config, covers: [HOST_RES_017], host: Shared,
        roles: [HttpConfig, Idle], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
];

/// Starts a workload with one HTTP component, configured by `configure`, and returns its HTTP host
/// name.
pub(super) async fn start_serving<'c>(
    cx: &'c CheckContext,
    label: &str,
    role: Role,
    configure: impl FnOnce(Workload<'c>) -> Workload<'c>,
) -> Result<String, Blocked> {
    let host = cx.http_host_name(label);
    let workload = configure(cx.workload().component(role)).http_host(&host);
    cx.start_and_wait(&cx.id(label), &workload).await?;
    Ok(host)
}

/// Sends a GET request and returns the body of the response, or a description of the response if
/// its status is not 200.
pub(super) async fn get_body(cx: &CheckContext, host: &str, path: &str) -> Result<String, Blocked> {
    let response = cx.http_get(host, path).await?;
    Ok(if response.status == 200 {
        response.text()
    } else {
        response.to_string()
    })
}

/// A guest can allocate memory up to its `memoryLimitMb` and no more, whatever the limits of other
/// guests with the same image.
async fn memory_limit(cx: &CheckContext) -> Flow {
    let limits = [("small", 16), ("large", 64), ("medium", 32)];
    for (label, limit) in limits {
        start_serving(cx, label, Role::HttpAlloc, |workload| {
            workload
                .memory_limit_mb(limit)
                .component(Role::Idle)
                .memory_limit_mb(256)
        })
        .await?;
    }
    for (label, limit) in limits {
        let host = cx.http_host_name(label);
        let (below, above, twice) = (limit / 2, limit + 1, limit * 2);
        cx.claim(HOST_RES_001).is(
            &format!("allocation of {below} MiB with memoryLimitMb {limit}"),
            get_body(cx, &host, &format!("/{below}")).await?,
            "ok".to_owned(),
        );
        for mib in [above, twice] {
            let over = cx.http_get(&host, &format!("/{mib}")).await?;
            let refused = over.status == 500 || over.text() == "refused";
            let description =
                format!("an allocation of {mib} MiB with memoryLimitMb {limit} fails");
            cx.claim(HOST_RES_001)
                .holds(&description, refused, || over.to_string());
        }
    }
    Ok(())
}

/// Without a positive `memoryLimitMb`, a guest can allocate 240 MiB.
async fn default_memory(cx: &CheckContext) -> Flow {
    for (label, resources) in [
        ("absent", None),
        ("empty", Some(json!({}))),
        ("environment", Some(json!({ "environment": { "A": "1" } }))),
        ("zero", Some(json!({ "memoryLimitMb": 0 }))),
        ("negative", Some(json!({ "memoryLimitMb": -1 }))),
    ] {
        let description = format!("allocation of 240 MiB with localResources {resources:?}");
        let host = start_serving(cx, label, Role::HttpAlloc, |workload| match resources {
            Some(resources) => workload.field("localResources", resources),
            None => workload,
        })
        .await?;
        let response = get_body(cx, &host, "/240").await?;
        cx.claim(HOST_RES_002)
            .is(&description, response, "ok".to_owned());
        // A host may keep the instance, and its memory, until the stop.
        cx.stop(&cx.id(label)).await?;
    }
    Ok(())
}

/// A guest that allocates without bound is stopped, and another workload keeps serving.
async fn unbounded_allocation(cx: &CheckContext) -> Flow {
    let greedy = start_serving(cx, "greedy", Role::HttpAlloc, |workload| workload).await?;
    let modest = start_serving(cx, "modest", Role::Hello, |workload| workload).await?;
    for _ in 0..3 {
        let response = cx.http_get(&greedy, "/endless").await?;
        let description = "HTTP status of a guest that allocates without bound";
        cx.claim(HOST_RES_003).is(description, response.status, 500);
    }
    let status = cx.status(&cx.id("modest")).await?;
    cx.claim(HOST_RES_003)
        .is("state of another workload", status.state, State::Running);
    let response = get_body(cx, &modest, "/").await?;
    cx.claim(HOST_RES_003).is(
        "HTTP response of another workload",
        response,
        "hello".to_owned(),
    );
    Ok(())
}

/// Values of environment variables that a host might change.
const VALUES: [(&str, &str); 12] = [
    ("BERTH_A", "1"),
    ("BERTH_AA", "zwei"),
    ("EMPTY", ""),
    ("EQUALS", "x=1=2"),
    ("EXPANDED", "$PATH ${PATH} $(PATH) %PATH% $$ ~ `pwd`"),
    ("QUOTED", "'single' \"double\" \\n \\\\"),
    ("SPACES", "  two  spaces  "),
    ("JSON", r#"{"a": [1, null]}"#),
    ("UNICODE", "\u{fc} \u{2713} \u{1f600}"),
    ("lower_case_1", "#no comment; & | < >"),
    ("NUMBER", "007"),
    ("BOOL", "true"),
];

/// A guest sees exactly the environment variables of its own part of the workload, unchanged.
async fn environment(cx: &CheckContext) -> Flow {
    let own = cx.http_host_name("own");
    let workload = VALUES.iter().fold(
        cx.workload().component(Role::HttpEnv),
        |workload, (name, value)| workload.env(name, value),
    );
    cx.start_and_wait(&cx.id("own"), &workload.http_host(&own))
        .await?;
    let between = cx.http_host_name("between");
    let workload = cx
        .workload()
        .component(Role::Idle)
        .env("BERTH_BEFORE", "1")
        .component(Role::HttpEnv)
        .env("BERTH_OWN", "2")
        .component(Role::Idle)
        .env("BERTH_AFTER", "3")
        .http_host(&between);
    cx.start_and_wait(&cx.id("between"), &workload).await?;
    let none = start_serving(cx, "none", Role::HttpEnv, |workload| workload).await?;
    for (host, expected) in [
        (own, &VALUES[..]),
        (between, &[("BERTH_OWN", "2")]),
        (none, &[]),
    ] {
        let variables = get_body(cx, &host, "/").await?;
        let mut lines: Vec<&str> = variables.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (expected.iter())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        expected.sort_unstable();
        // Only names of other variables: values of the host's own environment must not appear in a
        // report.
        let (known, unknown): (Vec<&str>, Vec<&str>) = (lines.iter().copied())
            .partition(|line| expected.iter().any(|variable| variable == *line));
        let names: Vec<&str> = unknown
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .collect();
        let description = format!("the guest sees the variables {expected:?} and no others");
        cx.claim(HOST_RES_004)
            .holds(&description, lines == expected, || {
                format!("the variables {known:?}, and others with the names {names:?}")
            });
    }
    Ok(())
}

/// The host replies to status while services spin, and their execution ends after a stop.
async fn spin(cx: &CheckContext) -> Flow {
    let ids: Vec<String> = (0..4).map(|n| cx.id(&n.to_string())).collect();
    for id in &ids {
        let beacon = cx.beacon();
        let workload = cx.workload().service(Role::ServiceSpin).beacon(&beacon);
        cx.start_and_wait(id, &workload).await?;
        let spinning = beacon.wait("spin", 1, deadlines::DEFAULT_WAIT.limit).await;
        spinning.map_err(|missed| cx.blocked(HOST_SVC_016, "a service that spins", &missed))?;
    }
    for id in &ids {
        let payload = json!({ "workloadId": id }).to_string();
        let reply = cx
            .send(
                "workload.status",
                payload,
                crate::wire::response::Headers::none(),
            )
            .await?;
        cx.claim(HOST_RES_015).answered(
            "the host replies to status within 5 s while guests spin",
            &reply,
        );
    }
    let process = cx.process()?;
    let mut busy = Streak::default();
    let observed = cx.eventually(deadlines::DEFAULT_WAIT, "busy threads of the host", || {
        let samples = busy.record(process.busy_threads().is_some_and(|threads| threads > 0));
        async move {
            (samples >= REQUIRED_SAMPLES)
                .then_some(())
                .ok_or_else(|| "all threads are idle".to_owned())
        }
    });
    // On a system without thread statistics, all threads would seem idle.
    observed.await.result.map_err(|missed| {
        Blocked::Missing(format!(
            "busy threads that the suite can observe: {}",
            missed.actual
        ))
    })?;
    for id in &ids {
        cx.stop(id).await?;
    }
    for id in &ids {
        cx.claim(HOST_RES_015).met(cx.wait_not_found(id).await);
    }
    let mut idle = Streak::default();
    let limit = deadlines::STOP_GUEST_ENDS;
    let ended = cx.eventually(limit, "guest execution has ended", || {
        let threads = process.busy_threads().unwrap_or_default();
        let samples = idle.record(threads == 0);
        async move {
            (samples >= REQUIRED_SAMPLES)
                .then_some(())
                .ok_or_else(|| format!("{threads} busy threads"))
        }
    });
    cx.claim(HOST_RES_015).met(ended.await);
    Ok(())
}

/// Number of consecutive equal samples that rules out chance. CPU time would be less reliable: on a
/// busy machine, a guest that never yields gets little CPU time.
const REQUIRED_SAMPLES: u32 = 6;

/// Number of consecutive samples that met a condition.
#[derive(Default)]
struct Streak(u32);

impl Streak {
    /// Records a sample and returns the length of the streak.
    fn record(&mut self, met: bool) -> u32 {
        self.0 = if met { self.0 + 1 } else { 0 };
        self.0
    }
}

/// Sets the `wasi:config` values and declares `wasi:config/store`.
fn with_config<'c>(workload: Workload<'c>, values: Value) -> Workload<'c> {
    workload
        .resource_field("config", values)
        .interface("wasi", "config", &["store"])
}

/// A component sees its own `wasi:config` values and no others, if the host offers `wasi:config`.
async fn config(cx: &CheckContext) -> Flow {
    let heartbeat = cx.heartbeat().await?.json.unwrap_or_default();
    let offered = heartbeat
        .get("imports")
        .and_then(Value::as_array)
        .is_some_and(|imports| {
            imports
                .iter()
                .any(|import| import["namespace"] == "wasi" && import["package"] == "config")
        });
    if !offered {
        cx.claim(HOST_RES_017)
            .holds("the host does not offer wasi:config", true, String::new);
        return Ok(());
    }
    let one = start_serving(cx, "one", Role::HttpConfig, |workload| {
        with_config(workload, json!({ "key": "one" }))
    })
    .await?;
    let two = start_serving(cx, "two", Role::HttpConfig, |workload| {
        with_config(workload, json!({ "other": "two" }))
    })
    .await?;
    let own = get_body(cx, &one, "/key").await?;
    cx.claim(HOST_RES_017)
        .is("value of the component's own config", own, "one".to_owned());
    let foreign = get_body(cx, &two, "/key").await?;
    cx.claim(HOST_RES_017).is(
        "value of another component's config",
        foreign,
        "none".to_owned(),
    );
    let between = cx.http_host_name("between");
    let workload = cx
        .workload()
        .component(Role::Idle)
        .config("before", "1")
        .component(Role::HttpConfig)
        .config("key", "between")
        .component(Role::Idle)
        .config("after", "3")
        .interface("wasi", "config", &["store"])
        .http_host(&between);
    cx.start_and_wait(&cx.id("between"), &workload).await?;
    for (key, expected) in [("key", "between"), ("before", "none"), ("after", "none")] {
        let value = get_body(cx, &between, &format!("/{key}")).await?;
        cx.claim(HOST_RES_017).is(
            &format!("value of `{key}` in the second of three components"),
            value,
            expected.to_owned(),
        );
    }
    let host_variable = get_body(cx, &one, "/PATH").await?;
    cx.claim(HOST_RES_017).is(
        "variable of the host's environment",
        host_variable,
        "none".to_owned(),
    );
    Ok(())
}
