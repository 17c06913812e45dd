//! Imports of components: declared, offered, or refused.

use berth_conformance::spec::roles::Role;
use berth_sdk::host::ReportedState;
use berth_sdk::proto::LocalResources;

use crate::fixture::{
    Fixture, UNREACHABLE_BEACON, http_interface, interface, resources_with_beacon, wait_for_report,
    workload,
};

#[tokio::test(flavor = "multi_thread")]
async fn refusal_names_undeclared_and_unoffered_imports() {
    let fixture = Fixture::new().await;
    for (role, declared, import) in [
        (Role::HttpKeyvalue, None, "wasi:keyvalue/store"),
        (Role::HttpConfig, None, "wasi:config/store"),
        (Role::HttpLogging, None, "wasi:logging/logging"),
        (Role::Unmet, Some("acme:nope/thing"), "acme:nope/thing"),
        (Role::Unmet, None, "acme:nope/thing"),
    ] {
        let component = fixture.component(role, LocalResources::default());
        let declared = declared.map(interface).into_iter().collect();
        let message = fixture
            .start_error(workload(vec![component], declared))
            .await;
        assert!(
            message.contains(import) && message.contains(role.name()),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_declared_interface_without_import() {
    let fixture = Fixture::new().await;
    let component = fixture.component(Role::Hello, LocalResources::default());
    let spec = workload(vec![component], vec![interface("acme:nope/thing")]);
    assert!(fixture.start(spec).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn component_reads_its_own_config() {
    let fixture = Fixture::new().await;
    let config = [("color".to_owned(), "blue".to_owned())].into();
    let own = LocalResources {
        config,
        ..Default::default()
    };
    let serve = async |host, resources| {
        let component = fixture.component(Role::HttpConfig, resources);
        let declared = vec![http_interface(host), interface("wasi:config/store")];
        fixture
            .start(workload(vec![component], declared))
            .await
            .unwrap()
    };
    let _blue = serve("blue.test", own).await;
    let _none = serve("none.test", LocalResources::default()).await;
    assert_eq!(fixture.get("blue.test", "/color").await.body, "blue");
    assert_eq!(fixture.get("none.test", "/color").await.body, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_keys_within_a_namespace_only() {
    let fixture = Fixture::new().await;
    let serve = async |host, namespace: &str| {
        let component = fixture.component(Role::HttpKeyvalue, LocalResources::default());
        let declared = vec![http_interface(host), interface("wasi:keyvalue/store")];
        let mut spec = workload(vec![component], declared);
        spec.namespace = namespace.into();
        fixture.start(spec).await.unwrap()
    };
    let _one = serve("one.test", "a").await;
    let _two = serve("two.test", "a").await;
    let _other = serve("other.test", "b").await;
    assert_eq!(fixture.get("one.test", "/get/key").await.body, "none");
    assert_eq!(fixture.get("one.test", "/set/key").await.body, "ok");
    assert_eq!(fixture.get("two.test", "/get/key").await.body, "berth");
    assert_eq!(fixture.get("other.test", "/get/key").await.body, "none");
    assert_eq!(fixture.get("two.test", "/delete/key").await.body, "ok");
    assert_eq!(fixture.get("one.test", "/get/key").await.body, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn component_can_log() {
    let fixture = Fixture::new().await;
    let component = fixture.component(Role::HttpLogging, LocalResources::default());
    let declared = vec![
        http_interface("log.test"),
        interface("wasi:logging/logging"),
    ];
    let _log = fixture
        .start(workload(vec![component], declared))
        .await
        .unwrap();
    assert_eq!(fixture.get("log.test", "/line").await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_core_module() {
    let fixture = Fixture::new().await;
    let component = fixture.component(Role::CoreModule, LocalResources::default());
    let message = fixture.start_error(workload(vec![component], vec![])).await;
    assert!(message.contains("is a core module"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_names_all_problems_of_all_components() {
    let fixture = Fixture::new().await;
    let unmet = fixture.component(Role::Unmet, LocalResources::default());
    let config = fixture.component(Role::HttpConfig, LocalResources::default());
    let mut spec = workload(vec![unmet, config], vec![]);
    spec.service = Some(fixture.service(Role::NoRun, 0, LocalResources::default()));
    let message = fixture.start_error(spec).await;
    for problem in ["acme:nope/thing", "wasi:config/store", "wasi:cli/run"] {
        assert_eq!(message.matches(problem).count(), 1, "{message}");
    }
    let mut versions = vec![interface("wasi:keyvalue/store"), http_interface("a_b")];
    versions[0].version = "latest".into();
    let broken = LocalResources {
        allowed_hosts: vec!["a b".into()],
        ..Default::default()
    };
    let component = fixture.component(Role::Hello, broken);
    let message = fixture
        .start_error(workload(vec![component], versions))
        .await;
    for problem in ["hostInterfaces[0].version: `latest`", "`a_b`", "`a b`"] {
        assert!(message.contains(problem), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_are_declared_or_exported_in_vain_are_told() {
    let fixture = Fixture::new().await;
    let component = |role| fixture.component(role, LocalResources::default());
    let message = async |spec| {
        let (_instance, mut reports) = fixture.start_with_reports(spec).await.unwrap();
        wait_for_report(&mut reports, ReportedState::Running)
            .await
            .message
    };
    for other in [
        "wasi:HTTP/incoming-handler",
        "wasmcloud:http/incoming-handler",
        "wasi:http/Incoming-Handler",
    ] {
        let mut declared = interface(other);
        declared.config.insert("host".into(), "a.test".into());
        let hidden = message(workload(vec![component(Role::Hello)], vec![declared])).await;
        let note = "exports wasi:http/incoming-handler@0.2.0, which is not declared";
        assert!(hidden.contains(note), "{hidden}");
        assert_eq!(fixture.get("a.test", "/").await.status, 404);
    }
    let declared = vec![http_interface("a.test")];
    let missing = message(workload(vec![component(Role::Idle)], declared)).await;
    assert!(missing.contains("no component exports it"), "{missing}");
    let declared = vec![http_interface("a.test")];
    let served = message(workload(vec![component(Role::Hello)], declared)).await;
    assert_eq!(served, "running");
    let mut spec = workload(vec![component(Role::Hello)], vec![]);
    let resources = resources_with_beacon(UNREACHABLE_BEACON);
    spec.service = Some(fixture.service(Role::ServiceRun, 0, resources));
    let with_service = message(spec).await;
    assert!(with_service.contains("not declared"), "{with_service}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_two_components_that_serve_http() {
    let fixture = Fixture::new().await;
    let components = [Role::Hello, Role::HelloTwo]
        .map(|role| fixture.component(role, LocalResources::default()));
    let spec = workload(components.to_vec(), vec![http_interface("a.test")]);
    let message = fixture.start_error(spec).await;
    let both = "component `hello` and component `hello-two` all export an HTTP handler";
    assert!(message.contains(both), "{message}");
}
