//! The lifecycle of a release: installation, upgrade with another group, removal.

use super::{api_server, root};

#[test]
fn upgrade_keeps_certificates_and_removal_keeps_definitions() {
    let server = api_server();
    let chart = root().join(xtask::chart::DIR);
    let chart = chart.to_str().unwrap();
    let namespaced = ["--namespace", "release"];
    let secret = |name: &str| {
        let json = [
            "-n",
            "release",
            "get",
            "secret",
            name,
            "-o",
            "jsonpath={.data}",
        ];
        server.kubectl_ok(&json, "")
    };

    let install = ["upgrade", "--install", "berth", chart, "--create-namespace"];
    let notes = server.helm(&[&install[..], &namespaced].concat());
    for line in ["hostgroup: default", "Service berth-host-public-ingress"] {
        assert!(notes.contains(line), "{line:?} is not in\n{notes}");
    }
    let before = ["berth-ca", "berth-nats-tls", "berth-host-default-tls"].map(secret);

    let more = ["--set", "hosts.groups.more.replicas=2"];
    server.helm(&[&install[..], &namespaced, &more].concat());
    assert_eq!(
        ["berth-ca", "berth-nats-tls", "berth-host-default-tls"].map(secret),
        before
    );
    assert!(secret("berth-host-more-tls").contains("tls.key"));
    let scale = "--raw=/apis/apps/v1/namespaces/release/deployments/berth-host-more/scale";
    let scale: serde_json::Value =
        serde_json::from_str(&server.kubectl_ok(&["get", scale], "")).unwrap();
    assert_eq!(scale["spec"]["replicas"], 2);

    // No kubelet runs the Job that releases the Pods of hosts.
    let uninstall = ["uninstall", "berth", "--no-hooks"];
    server.helm(&[&uninstall[..], &namespaced].concat());
    let left = server.kubectl_ok(
        &[
            "-n",
            "release",
            "get",
            "deployments,services,secrets",
            "-o",
            "name",
        ],
        "",
    );
    assert_eq!(left, "");
    let definitions = server.kubectl_ok(&["get", "crds", "-o", "name"], "");
    assert_eq!(definitions.lines().count(), 5, "{definitions}");
}
