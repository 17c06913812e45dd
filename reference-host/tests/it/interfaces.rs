//! What a component imports must be declared and offered.

use crate::role::Role;
use berth_sdk::proto::LocalResources;

use crate::stage::{Stage, http_interface, interface, workload};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_declared_or_not_offered_is_refused_by_name() {
    let stage = Stage::set().await;
    for (role, declared, import) in [
        (Role::HttpKeyvalue, None, "wasi:keyvalue/store"),
        (Role::HttpConfig, None, "wasi:config/store"),
        (Role::HttpLogging, None, "wasi:logging/logging"),
        (Role::Unmet, Some("acme:nope/thing"), "acme:nope/thing"),
        (Role::Unmet, None, "acme:nope/thing"),
    ] {
        let component = stage.component(role, LocalResources::default());
        let declared = declared.map(interface).into_iter().collect();
        let message = stage.refusal(workload(vec![component], declared)).await;
        assert!(
            message.contains(import) && message.contains(role.name()),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declared_interface_that_nobody_imports_is_no_error() {
    let stage = Stage::set().await;
    let component = stage.component(Role::Hello, LocalResources::default());
    let spec = workload(vec![component], vec![interface("acme:nope/thing")]);
    assert!(stage.start(spec).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_reads_its_own_config() {
    let stage = Stage::set().await;
    let config = [("color".to_owned(), "blue".to_owned())].into();
    let own = LocalResources {
        config,
        ..Default::default()
    };
    let serve = async |host, resources| {
        let component = stage.component(Role::HttpConfig, resources);
        let declared = vec![http_interface(host, ""), interface("wasi:config/store")];
        stage
            .start(workload(vec![component], declared))
            .await
            .unwrap()
    };
    let _blue = serve("blue.test", own).await;
    let _none = serve("none.test", LocalResources::default()).await;
    assert_eq!(stage.get("blue.test", "/color").await.body, "blue");
    assert_eq!(stage.get("none.test", "/color").await.body, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_shared_within_a_namespace_only() {
    let stage = Stage::set().await;
    let serve = async |host, namespace: &str| {
        let component = stage.component(Role::HttpKeyvalue, LocalResources::default());
        let declared = vec![http_interface(host, ""), interface("wasi:keyvalue/store")];
        let mut spec = workload(vec![component], declared);
        spec.namespace = namespace.into();
        stage.start(spec).await.unwrap()
    };
    let _one = serve("one.test", "a").await;
    let _two = serve("two.test", "a").await;
    let _other = serve("other.test", "b").await;
    assert_eq!(stage.get("one.test", "/get/key").await.body, "none");
    assert_eq!(stage.get("one.test", "/set/key").await.body, "ok");
    assert_eq!(stage.get("two.test", "/get/key").await.body, "berth");
    assert_eq!(stage.get("other.test", "/get/key").await.body, "none");
    assert_eq!(stage.get("two.test", "/delete/key").await.body, "ok");
    assert_eq!(stage.get("one.test", "/get/key").await.body, "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_may_log() {
    let stage = Stage::set().await;
    let component = stage.component(Role::HttpLogging, LocalResources::default());
    let declared = vec![
        http_interface("log.test", ""),
        interface("wasi:logging/logging"),
    ];
    let _log = stage
        .start(workload(vec![component], declared))
        .await
        .unwrap();
    assert_eq!(stage.get("log.test", "/line").await.body, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused() {
    let stage = Stage::set().await;
    let component = stage.component(Role::CoreModule, LocalResources::default());
    let message = stage.refusal(workload(vec![component], vec![])).await;
    assert!(message.contains("is a core module"), "{message}");
}
