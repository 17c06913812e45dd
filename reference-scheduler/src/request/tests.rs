//! A manifest that uses every field gives the request that it should; what is missing is refused.

use serde_json::Value;

use super::*;
use crate::api::Object;

const MANIFEST: &str = include_str!("../../tests/data/every-field.yaml");
const REQUEST: &str = include_str!("../../tests/data/every-field.request.json");

fn workload() -> Workload {
    let value: Value = serde_saphyr::from_str(MANIFEST).expect("YAML");
    match Object::from_value(value).expect("an object") {
        Object::Workload(workload) => (*workload).clone(),
        other => panic!("a workload, not a {}", other.kind()),
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

fn everything() -> References {
    let auths = r#"{"auths": {
        "registry.example": {"username": "reader", "password": "one"},
        "other.example": {"username": "reader", "password": "two"}}}"#;
    References {
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
                secret(pull_secret::KIND, [(pull_secret::KEY, auths)]),
            ),
        ]
        .into(),
    }
}

#[test]
fn every_field_arrives() {
    let request = start_request(&workload(), "an-id", &everything()).expect("a request");
    let expected: Value = serde_json::from_str(REQUEST).expect("JSON");
    assert_eq!(serde_json::to_value(&request).expect("JSON"), expected);
}

#[test]
fn what_is_referred_to_is_named_once() {
    let wanted = references(&workload().spec);
    assert_eq!(
        wanted.config_maps,
        ["first", "second"].map(str::to_owned).into()
    );
    assert_eq!(
        wanted.secrets,
        ["fourth", "registry", "third"].map(str::to_owned).into()
    );
}

#[test]
fn what_is_missing_is_refused_by_name() {
    let refusal = |change: fn(&mut References)| {
        let mut references = everything();
        change(&mut references);
        start_request(&workload(), "an-id", &references)
            .expect_err("a refusal")
            .to_string()
    };
    assert_eq!(
        refusal(|all| drop(all.config_maps.remove("second"))),
        r#"ConfigMap "second" does not exist"#
    );
    assert_eq!(
        refusal(|all| drop(all.secrets.remove("third"))),
        r#"Secret "third" does not exist"#
    );
    assert_eq!(
        refusal(|all| drop(all.secrets.remove("registry"))),
        r#"Secret "registry" does not exist"#
    );
    let opaque = refusal(|all| {
        all.secrets
            .entry("registry".to_owned())
            .and_modify(|secret| secret.kind = "Opaque".to_owned());
    });
    assert!(opaque.contains("dockerconfigjson"), "{opaque}");
    let bytes = refusal(|all| {
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
fn a_negative_number_of_restarts_is_refused_and_not_cast() {
    let mut workload = workload();
    workload
        .spec
        .service
        .as_mut()
        .expect("a service")
        .max_restarts = -1;
    let refusal = start_request(&workload, "an-id", &everything()).expect_err("a refusal");
    assert!(matches!(refusal, RequestError::NegativeRestarts(-1)));
}

#[test]
fn an_empty_workload_is_a_request_too() {
    let request =
        start_request(&Workload::default(), "an-id", &References::default()).expect("a request");
    let workload = request.workload.expect("a workload");
    assert_eq!(workload.wit_world, Some(wire::WitWorld::default()));
    assert_eq!(workload.service, None);
}

#[test]
fn aliases_of_the_user_are_kept_and_ours_not_doubled() {
    let ours = ["web.demo".to_owned(), "web.demo.svc".to_owned()];
    assert_eq!(with_aliases("", &ours), "web.demo,web.demo.svc");
    assert_eq!(
        with_aliases("a.example, web.demo", &ours),
        "a.example,web.demo,web.demo.svc"
    );
}
