//! Requests from a manifest with every field, and errors for missing references.

use serde_json::Value;

use super::*;
use crate::api::Object;

const MANIFEST: &str = include_str!("../../tests/data/every-field.yaml");
const REQUEST: &str = include_str!("../../tests/data/every-field.request.json");

fn workload() -> Workload {
    let value: Value = serde_saphyr::from_str(MANIFEST).expect("YAML");
    match Object::from_value(value).expect("an object") {
        Object::Workload(workload) => (*workload).clone(),
        other => panic!("expected a workload, not a {}", other.kind()),
    }
}

fn map<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn secret<const N: usize>(kind: &str, entries: [(&str, &str); N]) -> Secret {
    let data = entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
        .collect();
    Secret {
        kind: kind.to_owned(),
        data,
    }
}

fn all_data() -> ReferencedData {
    let auths = r#"{"auths": {
        "registry.example": {"username": "reader", "password": "one"},
        "other.example": {"username": "reader", "password": "two"}}}"#;
    ReferencedData {
        config_maps: [
            (
                "first".to_owned(),
                map([
                    ("B", "first"),
                    ("C", "first"),
                    ("D", "first"),
                    ("E", "first"),
                ]),
            ),
            (
                "second".to_owned(),
                map([("C", "second"), ("D", "second"), ("E", "second")]),
            ),
        ]
        .into(),
        secrets: [
            (
                "third".to_owned(),
                secret("Opaque", [("D", "third"), ("E", "third")]),
            ),
            ("fourth".to_owned(), secret("", [("E", "fourth")])),
            (
                "registry".to_owned(),
                secret(pull_secret::SECRET_TYPE, [(pull_secret::DATA_KEY, auths)]),
            ),
        ]
        .into(),
    }
}

#[test]
fn request_contains_every_field() {
    let request = start_request(&workload(), "an-id", &all_data()).expect("a request");
    let expected: Value = serde_json::from_str(REQUEST).expect("JSON");
    assert_eq!(serde_json::to_value(&request).expect("JSON"), expected);
}

#[test]
fn references_are_unique() {
    let references = references(&workload().spec);
    assert_eq!(
        references.config_maps,
        ["first", "second"].map(str::to_owned).into()
    );
    assert_eq!(
        references.secrets,
        ["fourth", "registry", "third"].map(str::to_owned).into()
    );
}

#[test]
fn errors_name_missing_references() {
    let error = |change: fn(&mut ReferencedData)| {
        let mut data = all_data();
        change(&mut data);
        start_request(&workload(), "an-id", &data)
            .expect_err("an error")
            .to_string()
    };
    assert_eq!(
        error(|all| drop(all.config_maps.remove("second"))),
        r#"ConfigMap "second" does not exist"#
    );
    assert_eq!(
        error(|all| drop(all.secrets.remove("third"))),
        r#"Secret "third" does not exist"#
    );
    assert_eq!(
        error(|all| drop(all.secrets.remove("registry"))),
        r#"Secret "registry" does not exist"#
    );
    let opaque = error(|all| {
        all.secrets
            .entry("registry".to_owned())
            .and_modify(|secret| secret.kind = "Opaque".to_owned());
    });
    assert!(opaque.contains("dockerconfigjson"), "{opaque}");
    let bytes = error(|all| {
        all.secrets
            .entry("third".to_owned())
            .and_modify(|secret| drop(secret.data.insert("X".to_owned(), vec![255])));
    });
    assert!(
        bytes.contains(r#""X""#) && bytes.contains("UTF-8"),
        "{bytes}"
    );
}

#[test]
fn rejects_negative_max_restarts() {
    let mut workload = workload();
    workload
        .spec
        .service
        .as_mut()
        .expect("a service")
        .max_restarts = -1;
    let error = start_request(&workload, "an-id", &all_data()).expect_err("an error");
    assert!(matches!(error, RequestError::NegativeRestarts(-1)));
}

#[test]
fn accepts_empty_workload() {
    let request = start_request(&Workload::default(), "an-id", &ReferencedData::default())
        .expect("a request");
    let workload = request.workload.expect("a workload");
    assert_eq!(workload.wit_world, Some(wire::WitWorld::default()));
    assert_eq!(workload.service, None);
}

#[test]
fn keeps_aliases_of_user_without_duplicates() {
    let ours = ["web.demo".to_owned(), "web.demo.svc".to_owned()];
    assert_eq!(with_aliases("", &ours), "web.demo,web.demo.svc");
    assert_eq!(
        with_aliases("a.example, web.demo", &ours),
        "a.example,web.demo,web.demo.svc"
    );
}

#[test]
fn every_http_declaration_gets_the_aliases_and_keeps_its_own() {
    let spec = serde_json::json!({
        "kubernetes": {"service": {"name": "shop"}},
        "hostInterfaces": [
            {"namespace": "wasi", "package": "http", "interfaces": ["incoming-handler"],
                "config": {"host": "one.test", "host-aliases": "a.test"}},
            {"namespace": "wasi", "package": "keyvalue", "interfaces": ["store"]},
            {"namespace": "wasi", "package": "http", "interfaces": ["handler"], "config": {"host": "two.test"}},
            {"namespace": "wasi", "package": "keyvalue", "interfaces": ["batch"]},
        ],
    });
    let value =
        serde_json::json!({"metadata": {"namespace": "default", "name": "a"}, "spec": spec});
    let workload: Workload = serde_json::from_value(value).expect("a workload");
    let request = start_request(&workload, "an-id", &ReferencedData::default()).expect("a request");
    let world = request
        .workload
        .and_then(|it| it.wit_world)
        .expect("a world");
    let aliases = world.host_interfaces.iter().map(|it| {
        let aliases = it.config.get(ALIASES_KEY).map(String::as_str);
        (it.config.get("host").map(String::as_str), aliases)
    });
    assert_eq!(
        aliases.collect::<Vec<_>>(),
        [
            (
                Some("one.test"),
                Some("a.test,shop.default,shop.default.svc")
            ),
            (None, None),
            (Some("two.test"), Some("shop.default,shop.default.svc")),
            (None, None),
        ]
    );
}
