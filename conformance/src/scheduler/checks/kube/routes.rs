//! Pods of hosts, and the EndpointSlices of Services that route to hosts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    cluster, cluster_error, finalizers, find, observe, plain_object, random_address, text,
};
use crate::check::outcome::{Blocked, Flow};
use crate::scheduler::context::{RunningWorkload, ScenarioContext};
use crate::scheduler::manifest::{Key, Manifest};
use crate::scheduler::simulated_host::{CommandRule, Reaction, SimulatedHost};
use crate::spec::requirements::*;

const POD_FINALIZER: &str = "runtime.wasmcloud.dev/pod-host-finalizer";

/// Creates a Pod with this IP address that is not scheduled to any Node.
async fn create_pod(cx: &ScenarioContext, name: &str, ip: &str) -> Result<Manifest, Blocked> {
    let pod = plain_object("v1", "Pod", &cx.name(name))
        .with(
            "/metadata/labels",
            json!({ "wasmcloud.com/hostgroup": cx.group() }),
        )
        .with(
            "/spec",
            json!({
                "containers": [{ "name": "host", "image": "registry.invalid/host:1" }],
                // No Node has this label, so no kubelet manages the Pod.
                "nodeSelector": { "berth.dev/nowhere": "true" },
                "terminationGracePeriodSeconds": 0,
            }),
        );
    cx.submit(&pod).await?;
    let status = json!({ "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] });
    cluster(cx)?
        .set_status(&pod.key(), status)
        .await
        .map_err(cluster_error)?;
    Ok(pod)
}

/// Waits until the scheduler has added its finalizer to a Pod. Without the finalizer, the scheduler
/// might miss the deletion of the Pod.
async fn wait_for_finalizer(cx: &ScenarioContext, pod: &Manifest) -> Result<(), Blocked> {
    let description = "the Pod has the finalizer";
    let has_finalizer = cx.eventually(cx.timings().act, description, || async {
        let object = observe(cx, &pod.key()).await?;
        if finalizers(&object).contains(&POD_FINALIZER) {
            Ok(())
        } else {
            Err(format!(
                "the Pod has the finalizers {:?}",
                finalizers(&object)
            ))
        }
    });
    has_finalizer.await.or_blocked(cx, SCHED_KUBE_003)
}

/// Deletes the Pod of a host and a Pod without a host, and checks that the scheduler removes the
/// finalizer of each.
pub(super) async fn pod_finalizer(cx: &ScenarioContext) -> Flow {
    let host_ip = random_address();
    let config = cx.host_config("a");
    cx.start_host(config.heartbeat_field("hostname", json!(host_ip)))
        .await?;
    // The host of the second Pod never sends a heartbeat.
    for (name, ip) in [("pod", host_ip), ("without-host", random_address())] {
        let pod = create_pod(cx, name, &ip).await?;
        wait_for_finalizer(cx, &pod).await?;
        cluster(cx)?
            .delete(&pod.key())
            .await
            .map_err(cluster_error)?;
        let description = "the finalizer is removed, and the Pod is deleted";
        let deleted = cx.eventually(cx.timings().notice, description, || async {
            match observe(cx, &pod.key()).await {
                Err(_) => Ok(()),
                Ok(object) => Err(format!(
                    "the Pod has the finalizers {:?}",
                    finalizers(&object)
                )),
            }
        });
        cx.claim(SCHED_KUBE_004).met(deleted.await);
    }
    Ok(())
}

/// Deletes the Pod of a host, and checks that the host's workloads restart on the other host.
pub(super) async fn pod_deleted(cx: &ScenarioContext) -> Flow {
    let host_ip = random_address();
    let config = cx.host_config("a");
    cx.start_host(config.heartbeat_field("hostname", json!(host_ip)))
        .await?;
    cx.deploy("app", 2, SCHED_SCALE_001).await?;
    let pod = create_pod(cx, "pod", &host_ip).await?;
    wait_for_finalizer(cx, &pod).await?;
    let config = cx.host_config("b");
    let b = cx
        .start_host(config.heartbeat_field("hostname", json!(random_address())))
        .await?;
    // The second host must be registered before the Pod of the first one is deleted.
    cx.wait(cx.timings().register).await;
    cluster(cx)?
        .delete(&pod.key())
        .await
        .map_err(cluster_error)?;
    let restarted = cx.eventually(
        cx.timings().notice,
        "both workloads run on the other host",
        || {
            let running = b.running_ids().len();
            std::future::ready(if running == 2 {
                Ok(())
            } else {
                Err(format!("{running} run on the other host"))
            })
        },
    );
    cx.claim(SCHED_KUBE_005).met(restarted.await);
    Ok(())
}

/// A deployment behind a Service, and the hosts on which it may run.
struct RoutedApp {
    app: Manifest,
    service: Manifest,
    hosts: Vec<SimulatedHost>,
}

/// Starts hosts with their own addresses, and deploys an app that a Service selects by name.
async fn deploy_routed(
    cx: &ScenarioContext,
    hosts: usize,
    replicas: i64,
) -> Result<RoutedApp, Blocked> {
    let mut started = Vec::new();
    for letter in ('a'..='z').take(hosts) {
        let config = cx.host_config(&letter.to_string());
        let config = config.heartbeat_field("hostname", json!(random_address()));
        started.push(cx.start_host(config).await?);
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
    cx.require_running("app", count, SCHED_SCALE_001).await?;
    Ok(RoutedApp {
        app,
        service,
        hosts: started,
    })
}

/// Returns all EndpointSlices of the Service.
async fn slices(cx: &ScenarioContext, service: &Manifest) -> Result<Vec<Value>, String> {
    let name = service.key().name;
    find(cx, "EndpointSlice", |slice| {
        let labels = slice.pointer("/metadata/labels");
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        service.and_then(Value::as_str) == Some(&*name)
    })
    .await
}

/// Returns the ready addresses of the Service.
async fn service_addresses(
    cx: &ScenarioContext,
    service: &Manifest,
) -> Result<BTreeSet<String>, String> {
    let slices = slices(cx, service).await?;
    let endpoints = slices
        .iter()
        .filter_map(|slice| slice.pointer("/endpoints")?.as_array())
        .flatten();
    let ready =
        endpoints.filter(|endpoint| endpoint.pointer("/conditions/ready") != Some(&json!(false)));
    let addresses = ready
        .filter_map(|endpoint| endpoint.get("addresses")?.as_array())
        .flatten();
    Ok(addresses
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// Returns the address that a host reports in its heartbeat.
fn address_of(host: &SimulatedHost) -> String {
    let config = host.config();
    let hostname = config.heartbeat_fields.get("hostname");
    hostname
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Returns the addresses of the hosts of workloads.
fn addresses_of(workloads: &[RunningWorkload]) -> BTreeSet<String> {
    workloads
        .iter()
        .map(|workload| address_of(&workload.host))
        .collect()
}

/// Waits until the Service has exactly the addresses of the hosts on which the app runs.
async fn wait_for_routes(
    cx: &ScenarioContext,
    routed: &RoutedApp,
    within: Duration,
) -> crate::check::wait::Waited<()> {
    cx.eventually(
        within,
        "the Service has exactly the addresses of the hosts that run the app",
        || async {
            let (actual, expected) = (
                service_addresses(cx, &routed.service).await?,
                addresses_of(&cx.running("app")),
            );
            if actual == expected && !actual.is_empty() {
                Ok(())
            } else {
                Err(format!("{actual:?} instead of {expected:?}"))
            }
        },
    )
    .await
}

/// Scales an app behind a Service and kills one of its hosts, and checks after each step that the
/// Service has exactly the addresses of the hosts that run the app.
pub(super) async fn endpoints(cx: &ScenarioContext) -> Flow {
    let (hosts, replicas) = (3, 2);
    let routed = deploy_routed(cx, hosts, replicas).await?;
    cx.submit(&routed.service).await?;
    let within = cx.timings().act + cx.timings().show;
    cx.claim(SCHED_KUBE_006)
        .met(wait_for_routes(cx, &routed, within).await);
    let as_specified = cx.eventually(within, "the EndpointSlices are as specified", || async {
        let slices = slices(cx, &routed.service).await?;
        let service = observe(cx, &routed.service.key()).await?;
        let is_valid = |slice: &&Value| {
            let label = slice
                .pointer("/metadata/labels")
                .and_then(|labels| labels.get("wasmcloud.dev/route-manager"));
            let owner = text(slice, "/metadata/ownerReferences/0/uid");
            let port = text(slice, "/ports/0/name");
            label == Some(&json!("true"))
                && owner == text(&service, "/metadata/uid")
                && port == "http"
        };
        match slices.iter().find(|slice| !is_valid(slice)) {
            None => Ok(()),
            Some(slice) => Err(slice.to_string()),
        }
    });
    cx.claim(SCHED_KUBE_006).met(as_specified.await);
    // The number of hosts that run the app decreases, and then increases.
    for replicas in [1, 3] {
        cluster(cx)?
            .set_scale(&routed.app.key(), replicas)
            .await
            .map_err(cluster_error)?;
        let count = usize::try_from(replicas).unwrap_or_default();
        cx.require_running("app", count, SCHED_SCALE_001).await?;
        cx.claim(SCHED_KUBE_006)
            .met(wait_for_routes(cx, &routed, within).await);
    }
    // A host ends, so its address must disappear.
    if let Some(workload) = cx.running("app").first() {
        workload.host.kill();
        let within = cx.timings().notice + cx.timings().show;
        cx.claim(SCHED_KUBE_006)
            .met(wait_for_routes(cx, &routed, within).await);
    }
    Ok(())
}

/// The EndpointSlices are changed and deleted by another client, and must be repaired.
pub(super) async fn endpoints_repaired(cx: &ScenarioContext) -> Flow {
    let (hosts, replicas) = (2, 2);
    let routed = deploy_routed(cx, hosts, replicas).await?;
    // The Service is created after the workloads.
    cx.submit(&routed.service).await?;
    let act = cx.timings().act;
    if cx
        .claim(SCHED_KUBE_007)
        .met(wait_for_routes(cx, &routed, act).await)
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
        let wrong_address = json!({ "endpoints": [{
            "addresses": [random_address()], "conditions": { "ready": true },
        }] });
        cluster
            .patch(key, wrong_address)
            .await
            .map_err(cluster_error)?;
    }
    cx.claim(SCHED_KUBE_007)
        .met(wait_for_routes(cx, &routed, act).await);
    for key in &keys {
        cluster.delete(key).await.map_err(cluster_error)?;
    }
    cx.claim(SCHED_KUBE_007)
        .met(wait_for_routes(cx, &routed, act).await);
    Ok(())
}

/// Scales an app behind a Service to one replica, and checks that the Service loses the address of
/// a host before that host receives the stop.
pub(super) async fn endpoint_removed_before_stop(cx: &ScenarioContext) -> Flow {
    let (hosts, replicas) = (2, 2);
    let routed = deploy_routed(cx, hosts, replicas).await?;
    cx.submit(&routed.service).await?;
    let within = cx.timings().act + cx.timings().show;
    wait_for_routes(cx, &routed, within)
        .await
        .or_blocked(cx, SCHED_KUBE_006)?;
    // With slow replies, a scheduler that removes the endpoint only after the reply is detected.
    for host in &routed.hosts {
        host.add_rule(CommandRule::on(
            "workload.stop",
            Reaction::DelayReply(Duration::from_secs(2)),
        ));
    }
    cluster(cx)?
        .set_scale(&routed.app.key(), 1)
        .await
        .map_err(cluster_error)?;
    let stopped = cx.eventually(cx.timings().act, "a stop", || {
        let stop = cx.journal().stops().into_iter().next();
        std::future::ready(stop.ok_or_else(|| "no stop".to_owned()))
    });
    let (stop, _) = stopped.await.or_blocked(cx, SCHED_SCALE_005)?;
    let addresses = service_addresses(cx, &routed.service)
        .await
        .map_err(Blocked::Harness)?;
    let stopping = routed.hosts.iter().find(|host| host.name() == stop.host);
    let stopping = stopping.map(address_of).unwrap_or_default();
    cx.claim(SCHED_KUBE_008).holds(
        "the Service no longer has the address of the host when the stop arrives",
        !addresses.contains(&stopping),
        || format!("{addresses:?} contain {stopping}"),
    );
    Ok(())
}
