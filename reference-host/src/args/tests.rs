//! The configuration that each command line produces.

use super::*;

/// Parses like [`parse`], without the environment variables of the test process.
fn parse_without_env(flags: &[&str]) -> Result<Config, clap::Error> {
    let command = command().mut_args(|arg| arg.env(None::<&str>));
    parse_with(command, [&["berth-host"], flags].concat())
}

fn debug_output(flags: &[&str]) -> String {
    format!(
        "{:?}",
        parse_without_env(flags).unwrap_or_else(|error| panic!("{flags:?}: {error}"))
    )
}

/// Each flag with a value that is not its default, and a part of the resulting configuration.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &["--nats-url", "nats://a:1,nats://b:2"],
        "[\"nats://a:1\", \"nats://b:2\"]",
    ),
    (&["--scheduler-nats-url", "nats://a:1"], "[\"nats://a:1\"]"),
    (&["--nats-creds", "/c"], "CredentialsFile(\"/c\")"),
    (&["--nats-nkey", "/n"], "NkeySeedFile(\"/n\")"),
    (&["--nats-token", "t"], "Token(***)"),
    (
        &["--nats-user", "u", "--nats-password", "p"],
        "UserPassword { user: \"u\", password: *** }",
    ),
    (&["--nats-tls"], "tls_required: true"),
    (&["--nats-tls-ca", "/ca"], "tls_ca_file: Some(\"/ca\")"),
    (
        &["--scheduler-nats-tls-ca", "/ca"],
        "tls_ca_file: Some(\"/ca\")",
    ),
    (
        &["--nats-tls-cert", "/a", "--nats-tls-key", "/b"],
        "tls_cert_file: Some(\"/a\")",
    ),
    (
        &["--nats-tls-key", "/b", "--nats-tls-cert", "/a"],
        "tls_key_file: Some(\"/b\")",
    ),
    (
        &[
            "--scheduler-nats-tls-cert",
            "/a",
            "--scheduler-nats-tls-key",
            "/b",
        ],
        "tls_key_file: Some(\"/b\")",
    ),
    (&["--nats-tls-first"], "tls_first: true"),
    (&["--scheduler-nats-tls-first"], "tls_first: true"),
    (
        &["--nats-inbox-prefix", "_IN"],
        "inbox_prefix: Some(\"_IN\")",
    ),
    (&["--nats-connect-timeout", "2s"], "connect_timeout: 2s"),
    (
        &["--data-nats-url", "nats://a:1"],
        "--data-nats-url and its TLS flags have no effect",
    ),
    (&["--data-nats-tls-ca", "/a"], "have no effect"),
    (&["--data-nats-tls-cert", "/a"], "have no effect"),
    (&["--data-nats-tls-key", "/a"], "have no effect"),
    (&["--data-nats-tls-first"], "have no effect"),
    (
        &["--grpc-addr", "127.0.0.1:9090"],
        "addr: Some(127.0.0.1:9090)",
    ),
    (
        &["--grpc-addr", "0.0.0.0:9090", "--grpc-insecure"],
        "addr: Some(0.0.0.0:9090)",
    ),
    (
        &["--allow-host-path", "/srv", "--allow-host-path", "/data"],
        "allowed_host_paths: [\"/srv\", \"/data\"]",
    ),
    (
        &["--host-name", "[fd00::7]"],
        "host_name: Some(\"fd00::7\")",
    ),
    (&["--insecure-registry", "[0::1]:5000"], "{\"[::1]:5000\"}"),
    (
        &["--no-nats", "--grpc-addr", "127.0.0.1:9090"],
        "no_nats: true",
    ),
    (
        &["--grpc-scheduler-url", "http://a:1"],
        "grpc_schedulers: [\"http://a:1\"]",
    ),
    (
        &["--grpc-tls-cert", "/a", "--grpc-tls-key", "/b"],
        "tls: Some(ServerTls { cert_file: \"/a\", key_file: \"/b\", client_ca_file: None })",
    ),
    (
        &[
            "--grpc-tls-client-ca",
            "/c",
            "--grpc-tls-cert",
            "/a",
            "--grpc-tls-key",
            "/b",
        ],
        "client_ca_file: Some(\"/c\")",
    ),
    (
        &["--grpc-tls-ca", "/c"],
        "client_tls: ClientTls { ca_file: Some(\"/c\")",
    ),
    (&["--host-id", "edge-7"], "host_id: Some(\"edge-7\")"),
    (
        &["--host-name", "10.0.0.7"],
        "host_name: Some(\"10.0.0.7\")",
    ),
    (&["--host-group", "gpu"], "{\"hostgroup\": \"gpu\"}"),
    (&["--environment", "prod"], "environment: Some(\"prod\")"),
    (
        &["--label", "b=2", "--label", "a=1"],
        "{\"a\": \"1\", \"b\": \"2\", \"hostgroup\": \"default\"}",
    ),
    (
        &["--http-addr", "127.0.0.1:0"],
        "http_addr: Some(127.0.0.1:0)",
    ),
    (
        &["--heartbeat-interval", "2500ms"],
        "heartbeat_interval: 2.5s",
    ),
    (&["--shutdown-grace", "1m"], "shutdown_grace: 60s"),
    (
        &["--insecure-registry", "a:5000"],
        "insecure_registries: {\"a:5000\"}",
    ),
    (&["--allow-insecure-registries"], "allow_all_insecure: true"),
    (
        &["--allow-insecure-registries"],
        "every registry is reached over plain HTTP",
    ),
    (&["--oci-ca-path", "/a"], "registry_ca_paths: [\"/a\"]"),
    (
        &["--oci-cache-dir", "/oci-cache"],
        "cache_dir: Some(\"/oci-cache\")",
    ),
    (&["--oci-cache-size-mib", "3"], "cache_bytes_max: 3145728"),
    (&["--oci-cache-size-mib", "3"], "pulled again at each start"),
    (&["--image-size-limit-mib", "7"], "image_bytes_max: 7340032"),
    (&["--registry-pull-timeout", "1m30s"], "pull_timeout: 90s"),
    (&["--registry-pull-timeout", "1m30s"], "over 55s"),
    (&["--max-concurrent-pulls", "3"], "concurrent_pulls_max: 3"),
    (
        &["--memory-limit-default-mib", "256"],
        "memory_default_bytes: 268435456",
    ),
    (
        &["--guest-memory-limit-mib", "3"],
        "guest_memory_bytes: Some(3145728)",
    ),
    (&["--max-workloads", "3"], "workloads_max: 3"),
    (&["--log-level", "debug"], "filter: \"debug\""),
    (&["-l", "debug"], "filter: \"debug\""),
    (&["--log-format", "json"], "json: true"),
];

#[test]
fn each_flag_changes_the_configuration() {
    let default = debug_output(&[]);
    for (flags, part) in FLAGS {
        let config = debug_output(flags);
        assert!(config.contains(part), "{flags:?}: no {part} in {config}");
        assert!(
            !default.contains(part),
            "{flags:?}: {part} is the default already"
        );
    }
}

#[test]
fn table_contains_each_flag() {
    let tested: Vec<&str> = FLAGS
        .iter()
        .flat_map(|(flags, _)| flags.iter().copied())
        .collect();
    for arg in command().get_arguments() {
        let names = [
            arg.get_long().into_iter().collect(),
            arg.get_all_aliases().unwrap_or_default(),
        ];
        for name in names
            .concat()
            .into_iter()
            .filter(|name| !["help", "version"].contains(name))
        {
            assert!(
                tested.contains(&format!("--{name}").as_str()),
                "--{name} is in no test"
            );
        }
    }
}

#[test]
fn no_flags_produce_the_default_configuration() {
    assert_eq!(debug_output(&[]), format!("{:?}", Config::default()));
}

#[test]
fn accepts_command_lines_of_wash_host() {
    let chart = [
        "host",
        "--host-name=10.1.2.3",
        "--host-group=default",
        "--environment=team-a",
        "--scheduler-nats-url=nats://nats:4222",
        "--scheduler-nats-tls-ca=/tls/ca.crt",
        "--scheduler-nats-tls-cert=/tls/tls.crt",
        "--scheduler-nats-tls-key=/tls/tls.key",
        "--data-nats-url=nats://nats:4222",
        "--oci-cache-dir=/oci-cache",
        "--http-addr=0.0.0.0:9191",
    ];
    let config = parse_without_env(&chart).unwrap();
    assert_eq!(config.connect.servers, ["nats://nats:4222"]);
    assert_eq!(
        format!("{config:?}"),
        debug_output(&chart[1..]),
        "`host` is optional"
    );
}

#[test]
fn flags_have_documented_environment_variables() {
    let command = command();
    let variable = |id: &str| {
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_id() == id)
            .unwrap();
        arg.get_env().unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(variable("nats_url"), "BERTH_NATS_URL");
    assert_eq!(variable("environment"), "WASMCLOUD_HOST_ENVIRONMENT");
    assert_eq!(variable("log_level"), "RUST_LOG");
}

#[test]
fn errors_describe_valid_input() {
    for (flags, part) in [
        (
            &["--nats-ulr", "x"][..],
            "a similar argument exists: '--nats-url'",
        ),
        (&["hots"], "[possible values: host]"),
        (&["--host-id", "a.b"], "a valid NATS subject token"),
        (&["--label", "berth.dev/x=true"], "the host itself sets"),
        (
            &["--label", "a=1", "--label", "a=2"],
            "duplicate --label a, with the values \"1\" and \"2\"",
        ),
        (&["--label", "hostgroup=x"], "use --host-group"),
        (&["--host-group", "a b"], "not a Kubernetes label value"),
        (&["--http-addr", "localhost"], "invalid socket address"),
        (
            &["--heartbeat-interval", "31s"],
            "must be between 1s and 30s",
        ),
        (
            &["--registry-pull-timeout", "30"],
            "missing unit, expected a number and a unit",
        ),
        (&["--memory-limit-default-mib", "0"], "0 is not in 1..=4096"),
        (&["--insecure-registry", "http://a"], "has no scheme"),
        (&["--insecure-registry", "::1:5000"], "in brackets"),
        (&["--allow-host-path", "data"], "must be an absolute path"),
        (&["--host-name", "a b"], "expected an address, or a name"),
        (
            &["--grpc-addr", "0.0.0.0:9090"],
            "or pass --grpc-insecure if the network keeps others away",
        ),
        (&["--nats-user", "u"], "--nats-password require each other"),
        (
            &["--nats-tls-cert", "/a"],
            "--nats-tls-key require each other",
        ),
        (
            &["--nats-token", "t", "--nats-creds", "/c"],
            "--nats-user are mutually exclusive",
        ),
    ] {
        let error = parse_without_env(flags).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{flags:?}");
        let text = error.render().to_string();
        assert!(text.contains(part), "{flags:?}: no {part:?} in {text}");
    }
}

#[test]
fn debug_output_hides_secrets() {
    let flags = [
        "--nats-url",
        "nats://a:hunter2@b",
        "--nats-token",
        "hunter2",
    ];
    assert!(!debug_output(&flags).contains("hunter2"));
}

#[test]
fn help_is_unchanged() {
    let mut command = command().term_width(100);
    insta::assert_snapshot!(command.render_help());
    command.debug_assert();
}
