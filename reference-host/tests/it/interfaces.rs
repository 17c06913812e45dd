//! Imports of components: declared, offered, or refused.

use berth_conformance::spec::roles::Role;
use berth_sdk::proto::LocalResources;

use crate::fixture::{Fixture, http_interface, interface, workload};

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
