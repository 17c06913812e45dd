//! The rights of the scheduler in Kubernetes: what it uses, and nothing beside.

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::{api_server, root};

const OURS: &str = "runtime.wasmcloud.dev";

/// Verbs, group, resource and name, in the namespace of a workload.
const WITH_WORKLOADS: [(&str, &str, &str); 12] = [
    ("get list watch create patch delete", OURS, "workloads"),
    (
        "get list watch create patch delete",
        OURS,
        "workloadreplicasets",
    ),
    ("get list watch patch", OURS, "workloaddeployments"),
    ("get list watch patch", OURS, "artifacts"),
    ("update", OURS, "workloads/status"),
    ("update", OURS, "workloaddeployments/status"),
    ("update", OURS, "workloadreplicasets/finalizers"),
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

/// What nobody would miss until it is misused.
const NOWHERE: [(&str, &str, &str); 10] = [
    ("list watch create update patch delete", "", "secrets"),
    ("list create update patch delete", "", "configmaps"),
    ("create update delete deletecollection", "", "pods"),
    ("create", "", "pods/exec"),
    ("create update patch delete", "", "services"),
    ("create delete", OURS, "workloaddeployments"),
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
fn the_scheduler_may_do_what_it_does_and_no_more() {
    let server = api_server();
    let everywhere = Account::install(&server, "rights-all", &[]);
    for (verbs, group, resource) in WITH_WORKLOADS {
        everywhere.expect(true, "some-namespace", (verbs, group, resource, ""));
    }
    for (verbs, group, resource) in NOWHERE {
        everywhere.expect(false, "some-namespace", (verbs, group, resource, ""));
        everywhere.expect(false, "rights-all", (verbs, group, resource, ""));
    }
    for (verbs, group, resource, name) in [
        ("get list watch create patch delete", OURS, "hosts", ""),
        ("update", OURS, "hosts/status", ""),
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
fn watched_namespaces_bound_the_rights() {
    let server = api_server();
    server.must(&["create", "namespace", "watched"], "");
    let account = Account::install(
        &server,
        "rights-some",
        &["scheduler.watchNamespaces={watched}"],
    );
    for (verbs, group, resource) in WITH_WORKLOADS {
        account.expect(true, "watched", (verbs, group, resource, ""));
        account.expect(false, "some-namespace", (verbs, group, resource, ""));
    }
    account.expect(false, "rights-some", ("get", "", "secrets", ""));
}

/// The account of an installed scheduler.
struct Account<'a> {
    server: &'a ControlPlane,
    user: String,
}

impl<'a> Account<'a> {
    /// Applies the rights alone, in a namespace of their own.
    fn install(server: &'a ControlPlane, namespace: &str, values: &[&str]) -> Self {
        server.must(&["create", "namespace", namespace], "");
        let mut arguments = vec![
            "--show-only",
            "templates/scheduler/rights.yaml",
            "--namespace",
            namespace,
        ];
        for value in values {
            arguments.extend(["--set", value]);
        }
        let yaml = xtask::chart::render(root(), &super::programs(), &arguments).unwrap();
        server.must(&["apply", "-f", "-"], &yaml);
        let user = format!("system:serviceaccount:{namespace}:berth-scheduler");
        Self { server, user }
    }

    fn expect(&self, allowed: bool, namespace: &str, what: (&str, &str, &str, &str)) {
        let (verbs, group, resource, name) = what;
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
            let answer = self
                .server
                .must(&["create", path, "-f", "-"], &review.to_string());
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let may = answer["status"]["allowed"].as_bool();
            assert_eq!(
                may,
                Some(allowed),
                "{verb} {what:?} in {namespace}: {answer}"
            );
        }
    }
}
