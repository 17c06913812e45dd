//! Permissions of the scheduler in Kubernetes: those that it uses, and no others.

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::{api_server, root};

const GROUP: &str = "runtime.wasmcloud.dev";

/// Permitted verbs, with group and resource, in namespaces with workloads.
const PERMITTED: [(&str, &str, &str); 12] = [
    ("get list watch create patch delete", GROUP, "workloads"),
    (
        "get list watch create patch delete",
        GROUP,
        "workloadreplicasets",
    ),
    ("get list watch patch", GROUP, "workloaddeployments"),
    ("get list watch patch", GROUP, "artifacts"),
    ("update", GROUP, "workloads/status"),
    ("update", GROUP, "workloaddeployments/status"),
    ("update", GROUP, "workloadreplicasets/finalizers"),
    ("get", "", "configmaps"),
    ("get", "", "secrets"),
    ("get list watch", "", "services"),
    (
        "get list watch create patch delete",
        "discovery.k8s.io",
        "endpointslices",
    ),
    ("create patch", "events.k8s.io", "events"),
];

/// Permissions that the scheduler must not have in any namespace.
const FORBIDDEN: [(&str, &str, &str); 10] = [
    ("list watch create update patch delete", "", "secrets"),
    ("list create update patch delete", "", "configmaps"),
    ("create update delete deletecollection", "", "pods"),
    ("create", "", "pods/exec"),
    ("create update patch delete", "", "services"),
    ("create delete", GROUP, "workloaddeployments"),
    ("get list", "", "nodes"),
    ("impersonate", "", "users"),
    (
        "create escalate bind",
        "rbac.authorization.k8s.io",
        "clusterroles",
    ),
    ("get create delete", "apps", "deployments"),
];

#[test]
fn scheduler_has_only_the_permissions_that_it_uses() {
    let server = api_server();
    let everywhere = Account::install(&server, "rights-all", &[]);
    for (verbs, group, resource) in PERMITTED {
        everywhere.expect(true, "some-namespace", (verbs, group, resource, ""));
    }
    for (verbs, group, resource) in FORBIDDEN {
        everywhere.expect(false, "some-namespace", (verbs, group, resource, ""));
        everywhere.expect(false, "rights-all", (verbs, group, resource, ""));
    }
    for (verbs, group, resource, name) in [
        ("get list watch create patch delete", GROUP, "hosts", ""),
        ("update", GROUP, "hosts/status", ""),
        ("get list watch patch", "", "pods", ""),
        (
            "get update",
            "coordination.k8s.io",
            "leases",
            "d34db3ef.wasmcloud.dev",
        ),
        ("create", "coordination.k8s.io", "leases", ""),
    ] {
        everywhere.expect(true, "rights-all", (verbs, group, resource, name));
        everywhere.expect(false, "some-namespace", (verbs, group, resource, name));
    }
    let other = (
        "get update delete",
        "coordination.k8s.io",
        "leases",
        "another",
    );
    everywhere.expect(false, "rights-all", other);
}

#[test]
fn permissions_are_limited_to_watched_namespaces() {
    let server = api_server();
    server.kubectl_ok(&["create", "namespace", "watched"], "");
    let account = Account::install(
        &server,
        "rights-some",
        &["scheduler.watchNamespaces={watched}"],
    );
    for (verbs, group, resource) in PERMITTED {
        account.expect(true, "watched", (verbs, group, resource, ""));
        account.expect(false, "some-namespace", (verbs, group, resource, ""));
    }
    account.expect(false, "rights-some", ("get", "", "secrets", ""));
}

/// The service account of an installed scheduler.
struct Account<'a> {
    server: &'a ControlPlane,
    user: String,
}

impl<'a> Account<'a> {
    /// Applies only the permissions, in a new namespace.
    fn install(server: &'a ControlPlane, namespace: &str, values: &[&str]) -> Self {
        server.kubectl_ok(&["create", "namespace", namespace], "");
        let mut arguments = vec![
            "--show-only",
            "templates/scheduler/rbac.yaml",
            "--namespace",
            namespace,
        ];
        for value in values {
            arguments.extend(["--set", value]);
        }
        let yaml = xtask::chart::render(root(), &super::programs(), &arguments).unwrap();
        server.kubectl_ok(&["apply", "-f", "-"], &yaml);
        let user = format!("system:serviceaccount:{namespace}:berth-scheduler");
        Self { server, user }
    }

    fn expect(&self, allowed: bool, namespace: &str, permission: (&str, &str, &str, &str)) {
        let (verbs, group, resource, name) = permission;
        for verb in verbs.split_whitespace() {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                "spec": {"user": self.user, "resourceAttributes": {
                    "namespace": namespace, "verb": verb, "group": group,
                    "resource": resource, "subresource": subresource, "name": name,
                }},
            });
            let path = "--raw=/apis/authorization.k8s.io/v1/subjectaccessreviews";
            let review = self
                .server
                .kubectl_ok(&["create", path, "-f", "-"], &review.to_string());
            let review: Value = serde_json::from_str(&review).unwrap();
            let actual = review["status"]["allowed"].as_bool();
            assert_eq!(
                actual,
                Some(allowed),
                "{verb} {permission:?} in {namespace}: {review}"
            );
        }
    }
}
