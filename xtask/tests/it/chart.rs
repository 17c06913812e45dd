//! The rendered Helm chart: a real API server accepts it, and a real nats-server enforces its
//! permissions.

mod broker;
mod installation;
mod nats_client;
mod permissions;
mod rbac;
mod renderings;

#[path = "../../../reference-scheduler/tests/it/control_plane.rs"]
#[allow(dead_code, reason = "the tests of the scheduler use more of it")]
mod control_plane;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use serde_json::Value;
use xtask::chart::{self, ChartError};

use self::control_plane::ControlPlane;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Returns the directory of kube-apiserver, etcd, kubectl and helm; builds missing ones.
fn programs() -> PathBuf {
    xtask::kube_api::obtain(root()).unwrap()
}

/// Returns the API server that concurrent tests share.
fn api_server() -> Arc<ControlPlane> {
    static SHARED: Mutex<Weak<ControlPlane>> = Mutex::new(Weak::new());
    control_plane::shared(&SHARED, || ControlPlane::start(programs()))
}

fn render(arguments: &[&str]) -> Result<Vec<Value>, ChartError> {
    Ok(objects(&chart::render(root(), &programs(), arguments)?))
}

fn objects(rendering: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(rendering).unwrap();
    documents.into_iter().filter(Value::is_object).collect()
}

/// Returns the only object with this kind and name.
fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = objects
        .iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let object = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "{kind} {name} exists twice");
    object
}

#[test]
fn rejects_invalid_values() {
    for (values, expected) in [
        ("scheduler.replica=2", "'replica' not allowed"),
        ("hosts.groups.default.service.type=Foo", "service/type"),
        (
            "hosts.groups.default.service.type=ClusterIP",
            "needs an httpPort",
        ),
        ("hosts.groups.Default.replicas=1", "Default"),
        ("hosts.groups.default.httpPort=80", "httpPort"),
        ("nats.boundHosts[0].id=a.b", "boundHosts/0/id"),
        (
            "nats.boundHosts[0].id=37a8ee-1",
            "starts with the id prefix of the group default",
        ),
        ("nats.enabled=false", "nats.external.url must be set"),
    ] {
        match render(&["--set", values]) {
            Err(ChartError::Helm { stderr }) => {
                assert!(stderr.contains(expected), "{values}: {stderr}");
            }
            other => panic!("{values} is not rejected: {other:?}"),
        }
    }
}

#[test]
fn groups_have_services_and_autoscaler_owns_replicas() {
    let objects = render(&[
        "--set",
        "hosts.groups.default.autoscaling.enabled=true,hosts.groups.more.service.type=NodePort",
    ])
    .unwrap();
    let services: Vec<(&str, &str)> = objects
        .iter()
        .filter(|object| object["kind"] == "Service")
        .map(|service| {
            let name = service["metadata"]["name"].as_str().unwrap();
            (
                name,
                service["spec"]["type"].as_str().unwrap_or("ClusterIP"),
            )
        })
        .filter(|(name, _)| name.contains("-host-"))
        .collect();
    assert_eq!(
        services,
        [
            ("berth-host-more", "NodePort"),
            ("berth-host-private-ingress", "ClusterIP"),
            ("berth-host-public-ingress", "LoadBalancer")
        ]
    );
    let replicas = |name| {
        find(&objects, "Deployment", name)["spec"]
            .get("replicas")
            .cloned()
    };
    assert_eq!(replicas("berth-host-default"), None);
    assert_eq!(replicas("berth-host-more"), Some(1.into()));
    let scaler = find(&objects, "HorizontalPodAutoscaler", "berth-host-default");
    assert_eq!(
        scaler["spec"]["scaleTargetRef"]["name"],
        "berth-host-default"
    );
}

#[test]
fn host_serves_between_deletion_of_its_pod_and_shutdown() {
    let pod = |version: &str, name: &str, values: &str| {
        let arguments = ["--kube-version", version, "--set", values];
        let objects = render(&arguments).unwrap();
        find(&objects, "Deployment", name)["spec"]["template"]["spec"].clone()
    };
    let (ingress, none) = ("berth-host-private-ingress", "hosts.logLevel=info");
    let pod_of_ingress = pod("1.30.0", ingress, none);
    let container = &pod_of_ingress["containers"][0];
    assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], 5);
    assert_eq!(pod_of_ingress["terminationGracePeriodSeconds"], 35);
    for (version, name, values) in [
        ("1.29.0", ingress, none),
        ("1.30.0", ingress, "hosts.preStopSeconds=0"),
        ("1.30.0", "berth-host-default", none),
    ] {
        let container = &pod(version, name, values)["containers"][0];
        assert_eq!(
            container.get("lifecycle"),
            None,
            "{version} {name} {values}"
        );
    }
    let arguments = container["args"].as_array().unwrap().iter();
    let listens_on_both_families = |it: &Value| it == "--http-addr=[::]:8000";
    assert_eq!(
        arguments.filter(|it| listens_on_both_families(it)).count(),
        1
    );
}

#[test]
fn names_fit_for_every_release_and_stay_different() {
    let group = "g".repeat(20);
    let port = format!("hosts.groups.{group}.httpPort=9191");
    let service = format!("hosts.groups.{group}.service.type=ClusterIP");
    let arguments = ["--set", port.as_str(), "--set", service.as_str()];
    let names = |release: &str| {
        let rendered = chart::render_release(release, root(), &programs(), &arguments).unwrap();
        let objects = objects(&rendered).into_iter();
        let names = objects.map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            (object["kind"].as_str().unwrap().to_owned(), name)
        });
        names.collect::<std::collections::BTreeSet<_>>()
    };
    // The longest names that Helm allows, which differ only at the end.
    let (first, second) = ("r".repeat(53), format!("{}s", "r".repeat(52)));
    let (first, second) = (names(&first), names(&second));
    // The other kinds allow 253 characters.
    let is_limited = |kind: &str| matches!(kind, "Service" | "Deployment" | "Job");
    for (kind, name) in first.iter().filter(|(kind, _)| is_limited(kind)) {
        assert!(name.len() <= 63, "{kind} {name}");
    }
    let shared = first
        .intersection(&second)
        .filter(|(kind, _)| kind != "CustomResourceDefinition");
    assert_eq!(shared.count(), 0);
    assert!(names("shop").contains(&("Deployment".to_owned(), "shop-berth-scheduler".to_owned())));

    for (values, limit) in [
        (format!("hosts.groups.{}.replicas=1", "g".repeat(40)), "20"),
        (format!("nats.boundHosts[0].id={}", "i".repeat(64)), "30"),
    ] {
        let Err(ChartError::Helm { stderr }) = render(&["--set", &values]) else {
            panic!("{values} is not rejected")
        };
        assert!(stderr.contains(limit), "{stderr}");
    }
}

#[test]
fn uninstallation_releases_the_pods_of_hosts_first() {
    let rendered = render(&[]).unwrap();
    let job = find(&rendered, "Job", "berth-uninstall");
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    let scheduler = &find(&rendered, "Deployment", "berth-scheduler")["spec"]["template"]["spec"];
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], scheduler["serviceAccountName"]);
    let container = &pod["containers"][0];
    assert_eq!(container["image"], scheduler["containers"][0]["image"]);
    assert_eq!(container["args"][0], "--release-pods");
}

#[test]
fn nats_image_of_the_chart_is_the_tested_version() {
    let pin = std::fs::read_to_string(root().join("xtask/tools/nats-server/go.mod")).unwrap();
    let objects = render(&[]).unwrap();
    let server = find(&objects, "Deployment", "berth-nats");
    let image = &server["spec"]["template"]["spec"]["containers"][0]["image"];
    let version = image.as_str().unwrap().strip_prefix("nats:").unwrap();
    let version = version.strip_suffix("-alpine").unwrap();
    assert!(
        pin.contains(&format!(
            "require github.com/nats-io/nats-server/v2 v{version}\n"
        )),
        "{version}"
    );
}
