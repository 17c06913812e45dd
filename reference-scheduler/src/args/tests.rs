//! Command lines in, configurations out.

use super::*;

/// Parses flags without the environment variables of the test process.
fn parse_only(flags: &[&str]) -> Result<Config, clap::Error> {
    let without_env = command().mut_args(|arg| arg.env(None::<&str>));
    parse_with(without_env, [&["berth-scheduler"], flags].concat())
}

fn config_text(flags: &[&str]) -> String {
    let config = parse_only(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
    format!("{config:?}")
}

fn error_text(flags: &[&str]) -> String {
    parse_only(flags).unwrap_err().to_string()
}

const DIR: &str = "--store=dir:/m";
/// The only flag that the default store, `kube`, requires.
const NAMESPACE: &str = "--namespace=ns";

/// Flags, and a part of the configuration that they result in.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &[DIR, "--grpc-addr", "127.0.0.1:9091", "--no-nats"],
        "addr: Some(127.0.0.1:9091)",
    ),
    (
        &[DIR, "--grpc-addr", "127.0.0.1:9091", "--no-nats"],
        "no_nats: true",
    ),
    (
        &[DIR, "--grpc-tls-ca", "/c"],
        "client_tls: ClientTls { ca_file: Some(\"/c\")",
    ),
    (&[DIR], "store: Dir(\"/m\")"),
    (&[DIR], "collect_garbage: true"),
    (&[DIR], "host_namespace: \"default\""),
    (&[DIR, NAMESPACE], "host_namespace: \"ns\""),
    (&[NAMESPACE], "collect_garbage: false"),
    (&[NAMESPACE], "host_namespace: \"ns\""),
    (
        &[NAMESPACE, "--kubeconfig", "/k"],
        "kubeconfig: Some(\"/k\")",
    ),
    (
        &[NAMESPACE, "--watch-namespaces", "a,b"],
        "watch_namespaces: [\"a\", \"b\"]",
    ),
    (
        &[NAMESPACE, "-watch-namespaces", ""],
        "watch_namespaces: []",
    ),
    (
        &[NAMESPACE, "--host-namespaces=a"],
        "host_namespaces: [\"a\"]",
    ),
    (&[NAMESPACE, "-leader-elect"], "leader_elect: true"),
    (&[NAMESPACE, "--leader-elect=false"], "leader_elect: false"),
    (
        &[NAMESPACE, "-disable-artifact-controller"],
        "disable_artifact_controller: true",
    ),
    (&[NAMESPACE], "allow_shared_hosts: true"),
    (
        &[NAMESPACE, "-allow-shared-hosts=false"],
        "allow_shared_hosts: false",
    ),
    (
        &[DIR, "-nats-url=nats://a:1,nats://b:2"],
        "[\"nats://a:1\", \"nats://b:2\"]",
    ),
    (
        &[DIR, "--nats-url", "nats://a:1", "--nats-url", "nats://b:2"],
        "[\"nats://a:1\", \"nats://b:2\"]",
    ),
    (&[DIR, "-nats-creds", "/c"], "CredentialsFile(\"/c\")"),
    (&[DIR, "-nats-ca", "/ca"], "tls_ca_file: Some(\"/ca\")"),
    (
        &[DIR, "-nats-client-cert=/a", "-nats-client-key=/b"],
        "tls_cert_file: Some(\"/a\")",
    ),
    (&[DIR, "-nats-tls-first"], "tls_first: true"),
    (&[DIR, "--nats-token", "t"], "Token(***)"),
    (&[DIR], "metrics_addr: None, health_addr: None"),
    (
        &[NAMESPACE],
        "metrics_addr: Some([::]:8081), health_addr: Some([::]:8082)",
    ),
    (
        &[NAMESPACE, "-metrics-bind-address=0"],
        "metrics_addr: None",
    ),
    (
        &[DIR, "-health-probe-bind-address", ":9"],
        "health_addr: Some([::]:9)",
    ),
    (&[DIR, "--json-log"], "json: true"),
    (&[DIR, "--zap-log-level=debug"], "filter: \"debug\""),
    (&[DIR, "--host-lost-after=5s"], "lost_after: 5s"),
    (&[DIR, "--host-lost-after=5s"], "suspect_after: 2.5s"),
    (&[DIR, "--surge-percent", "50"], "surge_percent: 50"),
    (&[DIR, "--fence", "1m"], "fence: 60s"),
    (
        &[DIR, "--remember-stops-for=240h"],
        "remember_stops_for: 864000s",
    ),
    (&[DIR, "-enable-http2"], "--enable-http2 has no effect"),
];

#[test]
fn applies_every_flag_to_the_configuration() {
    for (flags, part) in FLAGS {
        let config = config_text(flags);
        assert!(config.contains(part), "{flags:?}: {part}\n{config}");
    }
}

#[test]
fn errors_explain_invalid_values() {
    for (flags, part) in [
        (&[][..], "--store dir:PATH"),
        (&["--store", "etcd"], "dir:PATH"),
        (&[NAMESPACE, "--metrics-secure"], "plain HTTP"),
        (&[NAMESPACE, "--metrics-bind-address", "x"], ":8081"),
        (&[DIR, "--host-lost-after", "1s"], "between 5s"),
        (&[DIR, "--leader-elect=maybe"], "true or false"),
        (&[NAMESPACE, "--watch-namespaces", "A"], "lowercase"),
    ] {
        let error = error_text(flags);
        assert!(error.contains(part), "{flags:?}: {error}");
    }
}

#[test]
fn unknown_flag_with_one_dash_is_an_error() {
    // clap reads `-leader-elects` as the short flag `-l`.
    let error = error_text(&[DIR, "-leader-elects"]);
    assert!(error.contains("-l"), "{error}");
}

#[test]
fn accepts_command_line_of_wasmcloud_chart() {
    let config = config_text(&[
        "-leader-elect",
        "-nats-url=nats://nats.ns.svc:4222",
        "-nats-ca=/nats/ca.crt",
        "-nats-client-cert=/nats/tls.crt",
        "-nats-client-key=/nats/tls.key",
        "-watch-namespaces=a,b",
        "-host-namespaces=c",
        "-allow-shared-hosts=true",
        "-namespace=ns",
    ]);
    assert!(config.contains("leader_elect: true"), "{config}");
}

#[test]
fn help_contains_examples() {
    let help = command().render_long_help().to_string();
    for part in [
        "--store dir:./manifests",
        "-leader-elect",
        "OPERATOR_NAMESPACE",
    ] {
        assert!(help.contains(part), "{part}\n{help}");
    }
}

#[test]
fn flags_are_consistent() {
    command().debug_assert();
}
