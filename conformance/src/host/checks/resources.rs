//! Resource checks: limits, environment, allow-lists, interfaces, volumes, and spinning guests.

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Response, State};

/// Checks of the section `resources`, and one of the section `security`.
pub const CHECKS: &[Check] = &[
    check! {
        id: "resources/memory-limit", run: memory_limit, covers: [HOST_RES_001], host: Shared,
        roles: [HttpAlloc], needs: [Ingress, Registry], budget_s: 90, slow: false,
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
        roles: [HttpEnv], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/egress-denied", run: egress_denied, covers: [HOST_RES_005], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/egress-allowed", run: egress_allowed, covers: [HOST_RES_006], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/malformed-allow-lists", run: malformed_allow_lists, covers: [HOST_RES_007],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "resources/undeclared-import", run: undeclared_import, covers: [HOST_RES_008],
        host: Shared, roles: [HttpKeyvalue], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unmet-import", run: unmet_import, covers: [HOST_RES_009], host: Shared,
        roles: [Unmet], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unused-interface", run: unused_interface, covers: [HOST_RES_010],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/invalid-host-path", run: invalid_host_path, covers: [HOST_RES_011],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/unknown-volume", run: unknown_volume, covers: [HOST_RES_012], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/read-only", run: read_only, covers: [HOST_RES_013], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/empty-dir", run: empty_dir, covers: [HOST_RES_014], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/spin", run: spin, covers: [HOST_RES_015], host: Own, roles: [ServiceSpin],
        needs: [Registry, Process], budget_s: 120, slow: false,
    },
    check! {
        id: "resources/sockets", run: sockets, covers: [HOST_RES_016], host: Shared,
        roles: [HttpSocket], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "resources/config", run: config, covers: [HOST_RES_017], host: Shared,
        roles: [HttpConfig], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "security/values", run: values, covers: [HOST_SEC_003], host: Own, roles: [Idle],
        needs: [Registry, Process], budget_s: 90, slow: false,
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

/// Records the claim that a start ends in ERROR, with a message that contains `mentioned`.
async fn claim_refused(
    cx: &CheckContext,
    requirement: Requirement,
    description: &str,
    workload: &Workload<'_>,
    mentioned: Option<&str>,
) -> Flow {
    let id = cx.id(&description.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let start = cx.start(&id, workload).await?;
    let response: Response = match start.state {
        State::Starting => match cx
            .wait_for_state(&id, State::Error, deadlines::DEFAULT_WAIT)
            .await
            .result
        {
            Ok(response) => response,
            Err(_) => cx.status(&id).await?,
        },
        _ => start,
    };
    let failed = response.state == State::Error;
    let claim = format!("{description} is refused with ERROR");
    cx.claim(requirement)
        .about(&response)
        .holds(&claim, failed, || response.to_string());
    if let (true, Some(mentioned)) = (failed, mentioned) {
        let named = response.message.contains(mentioned);
        let claim = format!("the refusal of {description} names `{mentioned}`");
        cx.claim(requirement)
            .about(&response)
            .holds(&claim, named, || response.to_string());
    }
    Ok(())
}

/// A guest can allocate memory up to `memoryLimitMb` and no more.
async fn memory_limit(cx: &CheckContext) -> Flow {
    let host = start_serving(cx, "a", Role::HttpAlloc, |workload| {
        workload.memory_limit_mb(64)
    })
    .await?;
    cx.claim(HOST_RES_001).is(
        "allocation of 16 MiB with memoryLimitMb 64",
        get_body(cx, &host, "/16").await?,
        "ok".to_owned(),
    );
    let over = cx.http_get(&host, "/128").await?;
    let refused = over.status == 500 || over.text() == "refused";
    cx.claim(HOST_RES_001).holds(
        "an allocation of 128 MiB with memoryLimitMb 64 fails",
        refused,
        || over.to_string(),
    );
    Ok(())
}

/// Without `memoryLimitMb`, a guest can allocate 240 MiB.
async fn default_memory(cx: &CheckContext) -> Flow {
    let host = start_serving(cx, "a", Role::HttpAlloc, |workload| workload).await?;
    let response = get_body(cx, &host, "/240").await?;
    cx.claim(HOST_RES_002).is(
        "allocation of 240 MiB without memoryLimitMb",
        response,
        "ok".to_owned(),
    );
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

/// A guest sees only the environment variables of its workload.
async fn environment(cx: &CheckContext) -> Flow {
    let host = start_serving(cx, "a", Role::HttpEnv, |workload| {
        workload.env("BERTH_A", "1").env("BERTH_B", "zwei")
    })
    .await?;
    let variables = get_body(cx, &host, "/").await?;
    let mut lines: Vec<&str> = variables.lines().collect();
    lines.sort_unstable();
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    let as_expected = lines == ["BERTH_A=1", "BERTH_B=zwei"];
    // Only names: values of the host's own environment must not appear in a report.
    cx.claim(HOST_RES_004).holds(
        "the guest sees only the variables BERTH_A=1 and BERTH_B=zwei",
        as_expected,
        || format!("the variables {names:?}"),
    );
    Ok(())
}

/// A request to a destination that `allowedHosts` does not list is denied.
async fn egress_denied(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let url = format!("{}/fetch", beacon.value);
    for (label, entry) in [
        ("empty", None),
        ("other-name", Some("example.com")),
        ("other-port", Some("127.0.0.1:1")),
    ] {
        let host = start_serving(cx, label, Role::HttpFetch, |workload| {
            let workload = workload.env("BEACON", &url);
            match entry {
                Some(entry) => workload.allowed_host(entry),
                None => workload,
            }
        })
        .await?;
        let response = get_body(cx, &host, "/").await?;
        let description = format!(
            "request with allowedHosts {}, which does not permit it",
            entry.unwrap_or("empty")
        );
        cx.claim(HOST_RES_005)
            .is(&description, response, "denied".to_owned());
    }
    cx.claim(HOST_RES_005).is(
        "number of denied requests that arrived",
        beacon.count("fetch"),
        0,
    );
    Ok(())
}

/// A request to a destination in `allowedHosts` arrives.
async fn egress_allowed(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let url = format!("{}/fetch", beacon.value);
    let host = start_serving(cx, "a", Role::HttpFetch, |workload| {
        workload.env("BEACON", &url).allowed_host(&beacon.authority)
    })
    .await?;
    let response = get_body(cx, &host, "/").await?;
    let arrived = response.parse::<u16>().is_ok() && beacon.count("fetch") == 1;
    cx.claim(HOST_RES_006).holds(
        "a request that allowedHosts permits arrives",
        arrived,
        || {
            format!(
                "the guest received {response:?}, {} requests arrived",
                beacon.count("fetch")
            )
        },
    );
    Ok(())
}

/// A malformed entry of an allow-list is refused, with a message that contains the entry.
async fn malformed_allow_lists(cx: &CheckContext) -> Flow {
    for (list, entries) in [
        (
            "allowedHosts",
            &[
                "*com",
                "https://a.example/path",
                "exa mple.com",
                "a.example:99999",
            ][..],
        ),
        ("allowedIpNameLookups", &["*com", "exa mple.com"][..]),
        (
            "allowedHostLoopbackPorts",
            &["5432/icmp", "99999", "http"][..],
        ),
    ] {
        for entry in entries {
            let workload = cx
                .workload()
                .component(Role::Idle)
                .resource_field(list, json!([entry]));
            let description = format!("the entry {entry:?} of {list}");
            claim_refused(cx, HOST_RES_007, &description, &workload, Some(entry)).await?;
        }
    }
    Ok(())
}

/// A component that imports an undeclared interface is refused.
async fn undeclared_import(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::HttpKeyvalue)
        .http_host(&cx.http_host_name("a"));
    claim_refused(
        cx,
        HOST_RES_008,
        "an undeclared import",
        &workload,
        Some("wasi:keyvalue"),
    )
    .await
}

/// A component that imports an interface that the host does not offer is refused.
async fn unmet_import(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::Unmet)
        .http_host(&cx.http_host_name("a"))
        .interface("acme", "nope", &["thing"]);
    claim_refused(
        cx,
        HOST_RES_009,
        "an import that the host does not offer",
        &workload,
        Some("acme:nope"),
    )
    .await
}

/// A declared interface that no component imports is accepted, even if the host does not offer it.
async fn unused_interface(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let workload = cx
        .workload()
        .component(Role::Idle)
        .interface("acme", "nope", &["thing"]);
    let start = cx.start(&id, &workload).await?;
    let description = "a workload that declares an unused interface is accepted";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_RES_010)
        .holds(description, accepted, || start.to_string())
    {
        cx.claim(HOST_RES_010)
            .met(cx.wait_running(&id, deadlines::DEFAULT_WAIT).await);
    }
    Ok(())
}

/// A `hostPath` that does not exist or is not a directory is refused.
async fn invalid_host_path(cx: &CheckContext) -> Flow {
    for (description, path) in [
        (
            "a hostPath that does not exist",
            "/no/such/directory/for/berth",
        ),
        ("a hostPath that is a file", "/etc/hostname"),
    ] {
        let workload = cx
            .workload()
            .component(Role::Idle)
            .mount("v", "/data")
            .volume("v", json!({ "hostPath": { "localPath": path } }));
        claim_refused(cx, HOST_RES_011, description, &workload, None).await?;
    }
    Ok(())
}

/// A mount of an unknown volume is refused.
async fn unknown_volume(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::Idle)
        .mount("nowhere", "/data");
    claim_refused(
        cx,
        HOST_RES_012,
        "a mount of an unknown volume",
        &workload,
        Some("nowhere"),
    )
    .await
}

/// Mounts an `emptyDir` volume at `/data`.
fn with_empty_dir(workload: Workload<'_>) -> Workload<'_> {
    workload
        .mount("v", "/data")
        .volume("v", json!({ "emptyDir": {} }))
}

/// Mounts an `emptyDir` volume at `/data`, read-only.
fn with_read_only_empty_dir(workload: Workload<'_>) -> Workload<'_> {
    workload
        .mount_read_only("v", "/data")
        .volume("v", json!({ "emptyDir": {} }))
}

/// A guest cannot write through a `readOnly` mount.
async fn read_only(cx: &CheckContext) -> Flow {
    let writable = start_serving(cx, "rw", Role::HttpFiles, with_empty_dir).await?;
    if get_body(cx, &writable, "/write/f").await? != "ok" {
        return Err(cx.blocked(HOST_RES_014, "a writable volume", &"the write failed"));
    }
    let read_only = start_serving(cx, "ro", Role::HttpFiles, with_read_only_empty_dir).await?;
    let response = get_body(cx, &read_only, "/write/f").await?;
    cx.claim(HOST_RES_013).is(
        "write through a readOnly mount",
        response,
        "denied".to_owned(),
    );
    Ok(())
}

/// An `emptyDir` is writable, private to its workload, and removed with it.
async fn empty_dir(cx: &CheckContext) -> Flow {
    let one = start_serving(cx, "one", Role::HttpFiles, with_empty_dir).await?;
    let written = get_body(cx, &one, "/write/f").await?;
    cx.claim(HOST_RES_014).is(
        "write to the workload's own emptyDir",
        written,
        "ok".to_owned(),
    );
    let read = get_body(cx, &one, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file in the same workload",
        read,
        "berth".to_owned(),
    );
    let two = start_serving(cx, "two", Role::HttpFiles, with_empty_dir).await?;
    let foreign = get_body(cx, &two, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file in another workload",
        foreign,
        "denied".to_owned(),
    );

    let id = cx.id("one");
    cx.stop(&id).await?;
    cx.wait_not_found(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let again = start_serving(cx, "one", Role::HttpFiles, with_empty_dir).await?;
    let old = get_body(cx, &again, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "read of the file after a stop and a start",
        old,
        "denied".to_owned(),
    );
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

/// A guest cannot open a TCP connection without an allow-list.
async fn sockets(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let host = start_serving(cx, "a", Role::HttpSocket, |workload| {
        workload.env("BEACON", &beacon.value)
    })
    .await?;
    let response = get_body(cx, &host, "/").await?;
    cx.claim(HOST_RES_016).is(
        "TCP connection without an allow-list",
        response,
        "denied".to_owned(),
    );
    Ok(())
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
    let host_variable = get_body(cx, &one, "/PATH").await?;
    cx.claim(HOST_RES_017).is(
        "variable of the host's environment",
        host_variable,
        "none".to_owned(),
    );
    Ok(())
}

/// Neither replies nor the log contain values of `environment` or `config`.
async fn values(cx: &CheckContext) -> Flow {
    let secret = format!("value-{}-q9", cx.unique_name());
    cx.add_secret(&secret);
    let mut responses = Vec::new();
    let good = cx.push(Role::Idle).reference;
    for (label, image) in [("good", good.clone()), ("bad", good.replace(":v1", ":v9"))] {
        let workload = cx
            .workload()
            .component(image)
            .env("BERTH_SECRET", &secret)
            .resource_field("config", json!({ "secret": secret }));
        let id = cx.id(label);
        responses.push(cx.start(&id, &workload).await?);
        responses.push(cx.status(&id).await?);
    }
    responses.push(cx.heartbeat().await?);
    let leak = responses
        .iter()
        .find(|response| String::from_utf8_lossy(&response.raw).contains(&secret));
    cx.claim(HOST_SEC_003)
        .holds("no reply contains the value", leak.is_none(), || {
            "a reply contains the value".to_owned()
        });
    let logged = cx.process()?.log().contains(&secret);
    cx.claim(HOST_SEC_003)
        .holds("the log does not contain the value", !logged, || {
            "the log contains the value".to_owned()
        });
    Ok(())
}
