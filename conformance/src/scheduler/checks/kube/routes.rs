//! Pods in which hosts run, and the EndpointSlices of Services that lead to them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{address, cluster, finalizers, find, look, plain_object, text, trouble};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{Placed, ScenarioContext};
use crate::scheduler::manifest::{Key, Manifest};
use crate::scheduler::simulated_host::{Act, Rule, SimulatedHost};
use crate::spec::requirements::*;

const POD_FINALIZER: &str = "runtime.wasmcloud.dev/pod-host-finalizer";

/// A Pod that runs nowhere, at that address.
async fn pod(cx: &ScenarioContext, name: &str, at: &str) -> Result<Manifest, Blocked> {
    let pod = plain_object("v1", "Pod", &cx.name(name))
        .with(
            "/metadata/labels",
            json!({ "wasmcloud.com/hostgroup": cx.group() }),
        )
        .with(
            "/spec",
            json!({
                "containers": [{ "name": "host", "image": "registry.invalid/host:1" }],
                // No node has it, so that nobody else has a say in it.
                "nodeSelector": { "berth.dev/nowhere": "true" },
                "terminationGracePeriodSeconds": 0,
            }),
        );
    cx.submit(&pod).await?;
    let status = json!({ "phase": "Running", "podIP": at, "podIPs": [{ "ip": at }] });
    cluster(cx)?
        .set_status(&pod.key(), status)
        .await
        .map_err(trouble)?;
    Ok(pod)
}

/// Until the Pod is held, so that its deletion is noticed.
async fn held(cx: &ScenarioContext, pod: &Manifest) -> Result<(), Blocked> {
    let held = cx.eventually(cx.timings().act, "the Pod has the finalizer", || async {
        let object = look(cx, &pod.key()).await?;
        match finalizers(&object).contains(&POD_FINALIZER) {
            true => Ok(()),
            false => Err(format!("finalizers {:?}", finalizers(&object))),
        }
    });
    held.await.or_blocked(cx, SCHED_KUBE_003)
}

pub(super) async fn pod_let_go(cx: &ScenarioContext) -> Flow {
    let at = address();
    cx.host(cx.plan("a").fact("hostname", json!(at))).await?;
    // One whose host was never heard, too.
    for (name, at) in [("pod", at), ("lonely", address())] {
        let pod = pod(cx, name, &at).await?;
        held(cx, &pod).await?;
        cluster(cx)?
            .remove(&pod.key(), false)
            .await
            .map_err(trouble)?;
        let gone = cx.eventually(cx.timings().notice, "the Pod is let go", || async {
            match look(cx, &pod.key()).await {
                Err(_) => Ok(()),
                Ok(object) => Err(format!("finalizers {:?}", finalizers(&object))),
            }
        });
        cx.claim(SCHED_KUBE_004).met(gone.await);
    }
    Ok(())
}

pub(super) async fn pod_deleted(cx: &ScenarioContext) -> Flow {
    let at = address();
    cx.host(cx.plan("a").fact("hostname", json!(at))).await?;
    cx.deployed("app", 2, SCHED_SCALE_001).await?;
    let pod = pod(cx, "pod", &at).await?;
    held(cx, &pod).await?;
    let b = cx
        .host(cx.plan("b").fact("hostname", json!(address())))
        .await?;
    // It is registered before the first host goes.
    cx.pass(cx.timings().register).await;
    cluster(cx)?
        .remove(&pod.key(), false)
        .await
        .map_err(trouble)?;
    let moved = cx.eventually(
        cx.timings().notice,
        "what ran there is started elsewhere",
        || {
            let there = b.running().len();
            std::future::ready(if there == 2 {
                Ok(())
            } else {
                Err(format!("{there} run elsewhere"))
            })
        },
    );
    cx.claim(SCHED_KUBE_005).met(moved.await);
    Ok(())
}

/// A deployment that a Service leads to, and the hosts that it may run on.
struct Routed {
    app: Manifest,
    service: Manifest,
    hosts: Vec<SimulatedHost>,
}

async fn routed(cx: &ScenarioContext, hosts: usize, replicas: i64) -> Result<Routed, Blocked> {
    let mut up = Vec::new();
    for letter in ('a'..='z').take(hosts) {
        let plan = cx.plan(&letter.to_string());
        up.push(cx.host(plan.fact("hostname", json!(address()))).await?);
    }
    let name = cx.name("service");
    let app = cx
        .deployment("app", replicas)
        .spec("/kubernetes/service/name", json!(name))
        .spec(
            "/hostInterfaces",
            json!([{
                "namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
                "config": { "host": format!("{name}.example") },
            }]),
        );
    let service = plain_object("v1", "Service", &name).with(
        "/spec",
        json!({ "ports": [{ "name": "http", "port": 80, "targetPort": 80 }] }),
    );
    cx.submit(&app).await?;
    let count = usize::try_from(replicas).unwrap_or_default();
    cx.placed("app", count, SCHED_SCALE_001).await?;
    Ok(Routed {
        app,
        service,
        hosts: up,
    })
}

/// The slices of the Service, whoever made them.
async fn slices(cx: &ScenarioContext, service: &Manifest) -> Result<Vec<Value>, String> {
    let name = service.key().name;
    find(cx, "EndpointSlice", |slice| {
        let labels = slice.pointer("/metadata/labels");
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        service.and_then(Value::as_str) == Some(&*name)
    })
    .await
}

/// The addresses that the Service leads to.
async fn leads_to(cx: &ScenarioContext, service: &Manifest) -> Result<BTreeSet<String>, String> {
    let slices = slices(cx, service).await?;
    let endpoints = slices
        .iter()
        .filter_map(|slice| slice.pointer("/endpoints")?.as_array())
        .flatten();
    let ready = endpoints.filter(|one| one.pointer("/conditions/ready") != Some(&json!(false)));
    let addresses = ready
        .filter_map(|one| one.get("addresses")?.as_array())
        .flatten();
    Ok(addresses
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

fn address_of(host: &SimulatedHost) -> String {
    let plan = host.plan();
    let said = plan.facts.get("hostname").and_then(Value::as_str);
    said.unwrap_or_default().to_owned()
}

fn addresses_of(placed: &[Placed]) -> BTreeSet<String> {
    placed.iter().map(|one| address_of(&one.host)).collect()
}

/// Waits until the Service leads just to where the app runs.
async fn leads_there(
    cx: &ScenarioContext,
    routed: &Routed,
    within: Duration,
) -> crate::check::wait::Waited<()> {
    cx.eventually(
        within,
        "the Service leads to where it runs, and nowhere else",
        || async {
            let (there, running) = (
                leads_to(cx, &routed.service).await?,
                addresses_of(&cx.running("app")),
            );
            match there == running && !there.is_empty() {
                true => Ok(()),
                false => Err(format!("{there:?} instead of {running:?}")),
            }
        },
    )
    .await
}

pub(super) async fn endpoints(cx: &ScenarioContext) -> Flow {
    let routed = routed(cx, 3, 2).await?;
    cx.submit(&routed.service).await?;
    let within = cx.timings().act + cx.timings().show;
    cx.claim(SCHED_KUBE_006)
        .met(leads_there(cx, &routed, within).await);
    let wrong = cx.eventually(within, "the slice is as the page says", || async {
        let slices = slices(cx, &routed.service).await?;
        let service = look(cx, &routed.service.key()).await?;
        let right = |slice: &&Value| {
            let label = slice
                .pointer("/metadata/labels")
                .and_then(|labels| labels.get("wasmcloud.dev/route-manager"));
            let owner = text(slice, "/metadata/ownerReferences/0/uid");
            let port = text(slice, "/ports/0/name");
            label == Some(&json!("true"))
                && owner == text(&service, "/metadata/uid")
                && port == "http"
        };
        match slices.iter().find(|slice| !right(slice)) {
            None => Ok(()),
            Some(slice) => Err(slice.to_string()),
        }
    });
    cx.claim(SCHED_KUBE_006).met(wrong.await);
    // One host less, one host more.
    for replicas in [1, 3] {
        cluster(cx)?
            .set_scale(&routed.app.key(), replicas)
            .await
            .map_err(trouble)?;
        let count = usize::try_from(replicas).unwrap_or_default();
        cx.placed("app", count, SCHED_SCALE_001).await?;
        cx.claim(SCHED_KUBE_006)
            .met(leads_there(cx, &routed, within).await);
    }
    // One that does not serve any more.
    if let Some(placed) = cx.running("app").first() {
        placed.host.kill();
        let within = cx.timings().notice + cx.timings().show;
        cx.claim(SCHED_KUBE_006)
            .met(leads_there(cx, &routed, within).await);
    }
    Ok(())
}

pub(super) async fn mended(cx: &ScenarioContext) -> Flow {
    let routed = routed(cx, 2, 2).await?;
    // The Service comes after all that it leads to.
    cx.submit(&routed.service).await?;
    let act = cx.timings().act;
    if cx
        .claim(SCHED_KUBE_007)
        .met(leads_there(cx, &routed, act).await)
        .is_none()
    {
        return Ok(());
    }
    let cluster = cluster(cx)?;
    let first = slices(cx, &routed.service)
        .await
        .map_err(Blocked::Harness)?;
    let keys: Vec<Key> = first.iter().map(Key::of).collect();
    for key in &keys {
        let nobody =
            json!({ "endpoints": [{ "addresses": [address()], "conditions": { "ready": true } }] });
        cluster.change(key, nobody).await.map_err(trouble)?;
    }
    cx.claim(SCHED_KUBE_007)
        .met(leads_there(cx, &routed, act).await);
    for key in &keys {
        cluster.remove(key, false).await.map_err(trouble)?;
    }
    cx.claim(SCHED_KUBE_007)
        .met(leads_there(cx, &routed, act).await);
    Ok(())
}

pub(super) async fn before_stop(cx: &ScenarioContext) -> Flow {
    let routed = routed(cx, 2, 2).await?;
    cx.submit(&routed.service).await?;
    let within = cx.timings().act + cx.timings().show;
    leads_there(cx, &routed, within)
        .await
        .or_blocked(cx, SCHED_KUBE_006)?;
    // Whoever waits for the answer to the stop is seen.
    for host in &routed.hosts {
        host.script(Rule::on(
            "workload.stop",
            Act::AnswerAfter(Duration::from_secs(2)),
        ));
    }
    cluster(cx)?
        .set_scale(&routed.app.key(), 1)
        .await
        .map_err(trouble)?;
    let stopped = cx.eventually(cx.timings().act, "a stop", || {
        let stop = cx.journal().stops().into_iter().next();
        std::future::ready(stop.ok_or_else(|| "no stop".to_owned()))
    });
    let (stop, _) = stopped.await.or_blocked(cx, SCHED_SCALE_005)?;
    let there = leads_to(cx, &routed.service)
        .await
        .map_err(Blocked::Harness)?;
    let stopping = routed.hosts.iter().find(|host| host.name() == stop.host);
    let at = stopping.map(address_of).unwrap_or_default();
    cx.claim(SCHED_KUBE_008).holds(
        "the Service does not lead to the host when the stop has arrived there",
        !there.contains(&at),
        || format!("{there:?} hold {at}"),
    );
    Ok(())
}
