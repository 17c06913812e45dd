//! Resources and isolation: limits, allow-lists, volumes, interfaces, and guests that never yield.

use serde_json::{Value, json};

use crate::check::outcome::{Blocked, Flow};
use crate::host::check::{Check, check};
use crate::host::context::{CheckContext, Workload};
use crate::spec::deadlines;
use crate::spec::requirements::*;
use crate::spec::roles::Role;
use crate::wire::response::{Response, State};

/// The section.
pub const CHECKS: &[Check] = &[
    check! {
        id: "res/memory-limit", run: memory_limit, covers: [HOST_RES_001], host: Shared,
        roles: [HttpAlloc], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/default-memory", run: default_memory, covers: [HOST_RES_002], host: Shared,
        roles: [HttpAlloc], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/endless-memory", run: endless_memory, covers: [HOST_RES_003], host: Own,
        roles: [HttpAlloc, Hello], needs: [Ingress, Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "res/environment", run: environment, covers: [HOST_RES_004], host: Shared,
        roles: [HttpEnv], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/egress-denied", run: egress_denied, covers: [HOST_RES_005], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/egress-allowed", run: egress_allowed, covers: [HOST_RES_006], host: Shared,
        roles: [HttpFetch], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/malformed-allow-lists", run: malformed_allow_lists, covers: [HOST_RES_007],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 120, slow: false,
    },
    check! {
        id: "res/undeclared-import", run: undeclared_import, covers: [HOST_RES_008],
        host: Shared, roles: [HttpKeyvalue], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/unmet-import", run: unmet_import, covers: [HOST_RES_009], host: Shared,
        roles: [Unmet], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/unused-interface", run: unused_interface, covers: [HOST_RES_010],
        host: Shared, roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/host-path", run: host_path, covers: [HOST_RES_011], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/unknown-volume", run: unknown_volume, covers: [HOST_RES_012], host: Shared,
        roles: [Idle], needs: [Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/read-only", run: read_only, covers: [HOST_RES_013], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/empty-dir", run: empty_dir, covers: [HOST_RES_014], host: Shared,
        roles: [HttpFiles], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/spin", run: spin, covers: [HOST_RES_015], host: Own, roles: [ServiceSpin],
        needs: [Registry, Process], budget_s: 120, slow: false,
    },
    check! {
        id: "res/sockets", run: sockets, covers: [HOST_RES_016], host: Shared,
        roles: [HttpSocket], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "res/config", run: config, covers: [HOST_RES_017], host: Shared,
        roles: [HttpConfig], needs: [Ingress, Registry], budget_s: 90, slow: false,
    },
    check! {
        id: "sec/values", run: values, covers: [HOST_SEC_003], host: Own, roles: [Idle],
        needs: [Registry, Process], budget_s: 90, slow: false,
    },
];

/// A started workload of one component that serves HTTP under `label`.
async fn serve<'c>(
    cx: &'c CheckContext,
    label: &str,
    role: Role,
    shape: impl FnOnce(Workload<'c>) -> Workload<'c>,
) -> Result<String, Blocked> {
    let host = cx.http_name(label);
    let workload = shape(cx.workload().component(role)).http_host(&host);
    cx.started(&cx.id(label), &workload).await?;
    Ok(host)
}

/// The body of an answer of 200; anything else in words.
async fn body(cx: &CheckContext, host: &str, path: &str) -> Result<String, Blocked> {
    let answer = cx.http(host, path).await?;
    Ok(if answer.status == 200 {
        answer.text()
    } else {
        answer.to_string()
    })
}

/// Claims that a start ends in ERROR with a message that names something.
async fn refused(
    cx: &CheckContext,
    requirement: Requirement,
    what: &str,
    workload: &Workload<'_>,
    names: Option<&str>,
) -> Flow {
    let id = cx.id(&what.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let start = cx.start(&id, workload).await?;
    let answer: Response = match start.state {
        State::Starting => match cx.reaches(&id, State::Error, deadlines::LOOK).await.result {
            Ok(answer) => answer,
            Err(_) => cx.status(&id).await?,
        },
        _ => start,
    };
    let failed = answer.state == State::Error;
    let claim = format!("{what} is refused: ERROR");
    cx.claim(requirement)
        .about(&answer)
        .holds(&claim, failed, || answer.to_string());
    if let (true, Some(names)) = (failed, names) {
        let named = answer.message.contains(names);
        let claim = format!("the refusal of {what} names `{names}`");
        cx.claim(requirement)
            .about(&answer)
            .holds(&claim, named, || answer.to_string());
    }
    Ok(())
}

async fn memory_limit(cx: &CheckContext) -> Flow {
    let host = serve(cx, "a", Role::HttpAlloc, |workload| {
        workload.memory_limit_mb(64)
    })
    .await?;
    cx.claim(HOST_RES_001).is(
        "16 MiB of 64",
        body(cx, &host, "/16").await?,
        "ok".to_owned(),
    );
    let over = cx.http(&host, "/128").await?;
    let kept = over.status == 500 || over.text() == "refused";
    cx.claim(HOST_RES_001)
        .holds("128 MiB of 64 are refused", kept, || over.to_string());
    Ok(())
}

async fn default_memory(cx: &CheckContext) -> Flow {
    let host = serve(cx, "a", Role::HttpAlloc, |workload| workload).await?;
    let answer = body(cx, &host, "/240").await?;
    cx.claim(HOST_RES_002)
        .is("240 MiB without memoryLimitMb", answer, "ok".to_owned());
    Ok(())
}

async fn endless_memory(cx: &CheckContext) -> Flow {
    let greedy = serve(cx, "greedy", Role::HttpAlloc, |workload| workload).await?;
    let modest = serve(cx, "modest", Role::Hello, |workload| workload).await?;
    for _ in 0..3 {
        let answer = cx.http(&greedy, "/endless").await?;
        let what = "status of a guest that allocates without end";
        cx.claim(HOST_RES_003).is(what, answer.status, 500);
    }
    let status = cx.status(&cx.id("modest")).await?;
    cx.claim(HOST_RES_003)
        .is("state of another workload", status.state, State::Running);
    let answer = body(cx, &modest, "/").await?;
    cx.claim(HOST_RES_003)
        .is("another workload serves", answer, "hello".to_owned());
    Ok(())
}

async fn environment(cx: &CheckContext) -> Flow {
    let host = serve(cx, "a", Role::HttpEnv, |workload| {
        workload.env("BERTH_A", "1").env("BERTH_B", "zwei")
    })
    .await?;
    let seen = body(cx, &host, "/").await?;
    let mut lines: Vec<&str> = seen.lines().collect();
    lines.sort_unstable();
    let names: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    let what = "variables that the guest sees";
    let right = lines == ["BERTH_A=1", "BERTH_B=zwei"];
    // Values of the host's own environment are nobody's business, a report's least of all.
    cx.claim(HOST_RES_004).holds(
        &format!("{what}: BERTH_A=1, BERTH_B=zwei, nothing else"),
        right,
        || format!("the variables {names:?}"),
    );
    Ok(())
}

async fn egress_denied(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let url = format!("{}/fetch", beacon.value);
    for (label, entry) in [
        ("empty", None),
        ("other-name", Some("example.com")),
        ("other-port", Some("127.0.0.1:1")),
    ] {
        let host = serve(cx, label, Role::HttpFetch, |workload| {
            let workload = workload.env("BEACON", &url);
            match entry {
                Some(entry) => workload.allowed_host(entry),
                None => workload,
            }
        })
        .await?;
        let answer = body(cx, &host, "/").await?;
        let what = format!(
            "a request that the list ({}) does not permit",
            entry.unwrap_or("empty")
        );
        cx.claim(HOST_RES_005)
            .is(&what, answer, "denied".to_owned());
    }
    cx.claim(HOST_RES_005).is(
        "requests that arrived all the same",
        beacon.count("fetch"),
        0,
    );
    Ok(())
}

async fn egress_allowed(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let url = format!("{}/fetch", beacon.value);
    let host = serve(cx, "a", Role::HttpFetch, |workload| {
        workload.env("BEACON", &url).allowed_host(&beacon.authority)
    })
    .await?;
    let answer = body(cx, &host, "/").await?;
    let through = answer.parse::<u16>().is_ok() && beacon.count("fetch") == 1;
    cx.claim(HOST_RES_006)
        .holds("a request that the list permits arrives", through, || {
            format!(
                "the guest saw {answer:?}, {} requests arrived",
                beacon.count("fetch")
            )
        });
    Ok(())
}

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
            let what = format!("the entry {entry:?} of {list}");
            refused(cx, HOST_RES_007, &what, &workload, Some(entry)).await?;
        }
    }
    Ok(())
}

async fn undeclared_import(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::HttpKeyvalue)
        .http_host(&cx.http_name("a"));
    refused(
        cx,
        HOST_RES_008,
        "an import that is not declared",
        &workload,
        Some("wasi:keyvalue"),
    )
    .await
}

async fn unmet_import(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::Unmet)
        .http_host(&cx.http_name("a"))
        .interface("acme", "nope", &["thing"]);
    refused(
        cx,
        HOST_RES_009,
        "an import that is not offered",
        &workload,
        Some("acme:nope"),
    )
    .await
}

async fn unused_interface(cx: &CheckContext) -> Flow {
    let id = cx.id("a");
    let workload = cx
        .workload()
        .component(Role::Idle)
        .interface("acme", "nope", &["thing"]);
    let start = cx.start(&id, &workload).await?;
    let what = "a workload that declares what nobody imports is accepted";
    let accepted = matches!(start.state, State::Running | State::Starting);
    if cx
        .claim(HOST_RES_010)
        .holds(what, accepted, || start.to_string())
    {
        cx.claim(HOST_RES_010)
            .met(cx.running(&id, deadlines::LOOK).await);
    }
    Ok(())
}

async fn host_path(cx: &CheckContext) -> Flow {
    for (what, path) in [
        (
            "a hostPath that does not exist",
            "/no/such/directory/for/berth",
        ),
        ("a hostPath that is a file", "/etc/hostname"),
    ] {
        let workload = cx
            .workload()
            .component(Role::Idle)
            .mount("v", "/data", false)
            .volume("v", json!({ "hostPath": { "localPath": path } }));
        refused(cx, HOST_RES_011, what, &workload, None).await?;
    }
    Ok(())
}

async fn unknown_volume(cx: &CheckContext) -> Flow {
    let workload = cx
        .workload()
        .component(Role::Idle)
        .mount("nowhere", "/data", false);
    refused(
        cx,
        HOST_RES_012,
        "a mount of an unknown volume",
        &workload,
        Some("nowhere"),
    )
    .await
}

fn scratch(workload: Workload<'_>, read_only: bool) -> Workload<'_> {
    workload
        .mount("v", "/data", read_only)
        .volume("v", json!({ "emptyDir": {} }))
}

async fn read_only(cx: &CheckContext) -> Flow {
    let writable = serve(cx, "rw", Role::HttpFiles, |workload| {
        scratch(workload, false)
    })
    .await?;
    if body(cx, &writable, "/write/f").await? != "ok" {
        return Err(cx.blocked(HOST_RES_014, "a volume that can be written", &"it cannot"));
    }
    let guarded = serve(cx, "ro", Role::HttpFiles, |workload| {
        scratch(workload, true)
    })
    .await?;
    let answer = body(cx, &guarded, "/write/f").await?;
    cx.claim(HOST_RES_013).is(
        "writing through a readOnly mount",
        answer,
        "denied".to_owned(),
    );
    Ok(())
}

async fn empty_dir(cx: &CheckContext) -> Flow {
    let one = serve(cx, "one", Role::HttpFiles, |workload| {
        scratch(workload, false)
    })
    .await?;
    let wrote = body(cx, &one, "/write/f").await?;
    cx.claim(HOST_RES_014)
        .is("writing to one's own emptyDir", wrote, "ok".to_owned());
    let kept = body(cx, &one, "/read/f").await?;
    cx.claim(HOST_RES_014)
        .is("reading it back", kept, "berth".to_owned());
    let two = serve(cx, "two", Role::HttpFiles, |workload| {
        scratch(workload, false)
    })
    .await?;
    let foreign = body(cx, &two, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "reading it from another workload",
        foreign,
        "denied".to_owned(),
    );

    let id = cx.id("one");
    cx.stop(&id).await?;
    cx.gone(&id).await.or_blocked(cx, HOST_STOP_002)?;
    let again = serve(cx, "one", Role::HttpFiles, |workload| {
        scratch(workload, false)
    })
    .await?;
    let old = body(cx, &again, "/read/f").await?;
    cx.claim(HOST_RES_014).is(
        "reading it after a stop and a start",
        old,
        "denied".to_owned(),
    );
    Ok(())
}

/// More spinning services than cores; the host answers, and after the stop the processor is quiet.
async fn spin(cx: &CheckContext) -> Flow {
    let ids: Vec<String> = (0..4).map(|n| cx.id(&n.to_string())).collect();
    for id in &ids {
        let beacon = cx.beacon();
        let workload = cx.workload().service(Role::ServiceSpin).beacon(&beacon);
        cx.started(id, &workload).await?;
        let spun = beacon.wait("spin", 1, deadlines::LOOK.limit).await;
        spun.map_err(|silence| cx.blocked(HOST_SVC_016, "a service that spins", &silence))?;
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
        cx.claim(HOST_RES_015)
            .answered("status is answered within 5 s while guests spin", &reply);
    }
    let process = cx.process()?;
    let mut busy = Streak::default();
    let shown = cx.eventually(deadlines::LOOK, "the spinning shows", || {
        let looks = busy.after(process.busy_threads().is_some_and(|threads| threads > 0));
        async move {
            (looks >= LOOKS)
                .then_some(())
                .ok_or_else(|| "all threads rest".to_owned())
        }
    });
    // A system that tells nothing of threads could say only that all is quiet.
    shown.await.result.map_err(|missed| {
        Blocked::Missing(format!("a sight of the spinning: {}", missed.actual))
    })?;
    for id in &ids {
        cx.stop(id).await?;
    }
    for id in &ids {
        cx.claim(HOST_RES_015).met(cx.gone(id).await);
    }
    let mut rest = Streak::default();
    let limit = deadlines::STOP_GUEST_ENDS;
    let quiet = cx.eventually(limit, "guest execution has ended", || {
        let threads = process.busy_threads().unwrap_or_default();
        let looks = rest.after(threads == 0);
        async move {
            (looks >= LOOKS)
                .then_some(())
                .ok_or_else(|| format!("{threads} threads compute"))
        }
    });
    cx.claim(HOST_RES_015).met(quiet.await);
    Ok(())
}

/// So many looks in a row that show the same are no chance. Used time would tell less: on a busy machine
/// a guest that never yields gets little of it.
const LOOKS: u32 = 6;

/// How often in a row a look showed what it was to show.
#[derive(Default)]
struct Streak(u32);

impl Streak {
    fn after(&mut self, shown: bool) -> u32 {
        self.0 = if shown { self.0 + 1 } else { 0 };
        self.0
    }
}

async fn sockets(cx: &CheckContext) -> Flow {
    let beacon = cx.beacon();
    let host = serve(cx, "a", Role::HttpSocket, |workload| {
        workload.env("BEACON", &beacon.value)
    })
    .await?;
    let answer = body(cx, &host, "/").await?;
    cx.claim(HOST_RES_016).is(
        "a TCP connection that no list permits",
        answer,
        "denied".to_owned(),
    );
    Ok(())
}

fn configured<'c>(workload: Workload<'c>, values: Value) -> Workload<'c> {
    workload
        .resource_field("config", values)
        .interface("wasi", "config", &["store"])
}

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
            .holds("wasi:config is not offered", true, String::new);
        return Ok(());
    }
    let one = serve(cx, "one", Role::HttpConfig, |w| {
        configured(w, json!({ "key": "one" }))
    })
    .await?;
    let two = serve(cx, "two", Role::HttpConfig, |w| {
        configured(w, json!({ "other": "two" }))
    })
    .await?;
    let own = body(cx, &one, "/key").await?;
    cx.claim(HOST_RES_017)
        .is("a value of one's own", own, "one".to_owned());
    let foreign = body(cx, &two, "/key").await?;
    cx.claim(HOST_RES_017)
        .is("a value of another component's", foreign, "none".to_owned());
    let host_own = body(cx, &one, "/PATH").await?;
    cx.claim(HOST_RES_017).is(
        "a variable of the host's environment",
        host_own,
        "none".to_owned(),
    );
    Ok(())
}

/// A start that works and one that fails, with values that nobody else should see.
async fn values(cx: &CheckContext) -> Flow {
    let secret = format!("value-{}-q9", cx.tag());
    cx.secret(&secret);
    let mut answers = Vec::new();
    let good = cx.push(Role::Idle).reference;
    for (label, image) in [("good", good.clone()), ("bad", good.replace(":v1", ":v9"))] {
        let workload = cx
            .workload()
            .component(image)
            .env("BERTH_SECRET", &secret)
            .resource_field("config", json!({ "secret": secret }));
        let id = cx.id(label);
        answers.push(cx.start(&id, &workload).await?);
        answers.push(cx.status(&id).await?);
    }
    answers.push(cx.heartbeat().await?);
    let told = answers
        .iter()
        .find(|answer| String::from_utf8_lossy(&answer.raw).contains(&secret));
    cx.claim(HOST_SEC_003)
        .holds("no answer holds a value", told.is_none(), || {
            "one does".to_owned()
        });
    let logged = cx.process()?.log().contains(&secret);
    cx.claim(HOST_SEC_003)
        .holds("the log holds no value", !logged, || "it does".to_owned());
    Ok(())
}
