//! An API server accepts renderings with all kinds of values, without warnings.

use super::{api_server, objects, programs, root};

/// Returns the names and arguments of the renderings.
fn renderings() -> Vec<(&'static str, Vec<String>)> {
    let local = root().join("deploy/chart/values.local.yaml");
    let set = |values: &str| vec!["--set".to_owned(), values.to_owned()];
    vec![
        ("defaults", Vec::new()),
        (
            "local",
            vec!["--values".to_owned(), local.display().to_string()],
        ),
        (
            "external definitions, certificates and NATS",
            set("crds.install=false,tls.generate=false,nats.enabled=false,\
                 nats.external.url=tls://nats.example:4222"),
        ),
        ("some namespaces", set("scheduler.watchNamespaces={shop}")),
        (
            "scaling",
            set("hosts.groupDefaults.autoscaling.enabled=true,hosts.groups.gpu.replicas=0"),
        ),
        (
            "bound hosts",
            set("nats.boundHosts[0].id=edge-1,nats.service.type=NodePort,\
                 nats.service.nodePort=30422,\
                 nats.extraServerNames={nats.example}"),
        ),
        (
            "all additions to Pods",
            set(
                "imagePullSecrets[0].name=regcred,scheduler.nodeSelector.a=b,\
                 hosts.groupDefaults.nodeSelector.a=b,\
                 scheduler.tolerations[0].operator=Exists,nats.tolerations[0].operator=Exists,\
                 hosts.groupDefaults.labels.zone=a,\
                 hosts.groupDefaults.extraArgs={--max-workloads=7},\
                 scheduler.env[0].name=RUST_LOG,scheduler.env[0].value=debug,\
                 scheduler.podAnnotations.a=b,\
                 hosts.groupDefaults.env[0].name=A,hosts.groupDefaults.env[0].value=b,\
                 hosts.groupDefaults.podAnnotations.a=b,nats.podAnnotations.a=b,\
                 hosts.groupDefaults.service.annotations.a=b,nats.service.annotations.a=b",
            ),
        ),
    ]
}

#[test]
fn api_server_accepts_every_rendering_without_warnings() {
    let server = api_server();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: NAME\n  labels:\n    \
                     pod-security.kubernetes.io/enforce: restricted\n    \
                     pod-security.kubernetes.io/warn: restricted\n";
    for name in ["berth", "shop"] {
        server.kubectl_ok(&["apply", "-f", "-"], &namespace.replace("NAME", name));
    }
    for (name, arguments) in renderings() {
        let yaml = xtask::chart::render(root(), &programs(), &arguments).unwrap();
        let output = server.kubectl(
            &[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                "-",
            ],
            &yaml,
        );
        assert!(output.status.success(), "{name}: {}", output.stderr);
        assert!(
            !output.stderr.contains("Warning"),
            "{name}: {}",
            output.stderr
        );
        let objects = objects(&yaml).len();
        assert_eq!(
            output.stdout.lines().count(),
            objects,
            "{name}: {}",
            output.stdout
        );
    }
}
