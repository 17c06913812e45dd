//! The golden vectors, as far as the generated code alone satisfies them.
//!
//! The decoder of berth-sdk handles the rest, with its own test: null for a field that is not a
//! message, an unpaired surrogate in a name, and duplicate keys in a map or an unknown field.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use berth_proto as proto;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Null means unset: handled by the decoder of berth-sdk.
const NULLS: &str = "HOST-JSON-013";
/// An unpaired surrogate in the name of a field: handled by the decoder of berth-sdk.
const UNPAIRED_NAME: &str = "an unknown field: an unpaired surrogate in its name";
/// Duplicate keys: handled by the decoder of berth-sdk.
const DUPLICATE_KEYS: &str = "HOST-JSON-017";

#[test]
fn every_message_satisfies_its_vectors() {
    let mut failures = Vec::new();
    let mut tried = 0;
    let mut messages = BTreeSet::new();
    for (file, vector) in vectors() {
        let message = text(&vector, "message");
        messages.insert(message.clone());
        let location = format!("{file}: {}", text(&vector, "name"));
        let (count, wrong) = check(&message, &vector);
        tried += count;
        failures.extend(
            wrong
                .into_iter()
                .map(|wrong| format!("{location}: {wrong}")),
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(tried > 600, "tried only {tried} payloads");
    let expected: BTreeSet<String> = messages_of_the_schema();
    assert_eq!(
        messages, expected,
        "the vectors cover exactly the messages of the schema"
    );
}

fn check(message: &str, vector: &Value) -> (usize, Vec<String>) {
    match message {
        "Component" => check_as::<proto::Component>(vector),
        "EmptyDirVolume" => check_as::<proto::EmptyDirVolume>(vector),
        "HostHeartbeat" => check_as::<proto::HostHeartbeat>(vector),
        "HostHeartbeatRequest" => check_as::<proto::HostHeartbeatRequest>(vector),
        "HostPathVolume" => check_as::<proto::HostPathVolume>(vector),
        "ImagePullSecret" => check_as::<proto::ImagePullSecret>(vector),
        "LocalResources" => check_as::<proto::LocalResources>(vector),
        "Service" => check_as::<proto::Service>(vector),
        "Volume" => check_as::<proto::Volume>(vector),
        "VolumeMount" => check_as::<proto::VolumeMount>(vector),
        "WitInterface" => check_as::<proto::WitInterface>(vector),
        "WitWorld" => check_as::<proto::WitWorld>(vector),
        "Workload" => check_as::<proto::Workload>(vector),
        "WorkloadStartRequest" => check_as::<proto::WorkloadStartRequest>(vector),
        "WorkloadStartResponse" => check_as::<proto::WorkloadStartResponse>(vector),
        "WorkloadStatus" => check_as::<proto::WorkloadStatus>(vector),
        "WorkloadStatusRequest" => check_as::<proto::WorkloadStatusRequest>(vector),
        "WorkloadStatusResponse" => check_as::<proto::WorkloadStatusResponse>(vector),
        "WorkloadStopRequest" => check_as::<proto::WorkloadStopRequest>(vector),
        "WorkloadStopResponse" => check_as::<proto::WorkloadStopResponse>(vector),
        _ => (0, vec![format!("unknown message {message}")]),
    }
}

fn check_as<M>(vector: &Value) -> (usize, Vec<String>)
where
    M: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let mut wrong = Vec::new();
    let canonical = &vector["canonical"];
    let expected: M = match serde_json::from_str(&canonical.to_string()) {
        Ok(message) => message,
        Err(error) => return (1, vec![format!("canonical form is rejected: {error}")]),
    };
    // Via text, because a `Value` would widen the float.
    let encoded: Value = serde_json::from_str(&serde_json::to_string(&expected).unwrap()).unwrap();
    if comparable(&encoded) != comparable(canonical) {
        wrong.push(format!("encoded as {encoded}"));
    }
    if M::decode(expected.encode_to_vec().as_slice()).as_ref() != Ok(&expected) {
        wrong.push("the binary form does not round-trip".to_owned());
    }
    let mut tried = 1;
    let is_for_generated_code =
        |entry: &&Value| entry["rule"] != NULLS && entry["why"] != UNPAIRED_NAME;
    for entry in entries(vector, "accepts").filter(is_for_generated_code) {
        tried += 1;
        match serde_json::from_slice::<M>(&payload(entry)) {
            Ok(decoded) if decoded == expected => {}
            Ok(decoded) => wrong.push(format!("{}: decoded as {decoded:?}", entry["why"])),
            Err(error) => wrong.push(format!("{}: rejected: {error}", entry["why"])),
        }
    }
    for entry in entries(vector, "refuses").filter(|entry| entry["rule"] != DUPLICATE_KEYS) {
        tried += 1;
        if let Ok(decoded) = serde_json::from_slice::<M>(&payload(entry)) {
            wrong.push(format!("{}: accepted as {decoded:?}", entry["why"]));
        }
    }
    (tried, wrong)
}

/// Normalizes the format of timestamps and floats.
fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| match (key.as_str(), member) {
                ("startedAt", Value::String(_)) => {
                    let time: pbjson_types::Timestamp =
                        serde_json::from_value(member.clone()).unwrap();
                    (key.clone(), serde_json::to_value(time).unwrap())
                }
                ("systemCpuUsage", Value::Number(number)) => {
                    let value: f32 = number.to_string().parse().unwrap();
                    (key.clone(), Value::from(value))
                }
                _ => (key.clone(), comparable(member)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(comparable).collect(),
        other => other.clone(),
    }
}

fn payload(entry: &Value) -> Vec<u8> {
    match (entry.get("json"), entry.get("text"), entry.get("base64")) {
        (Some(json), None, None) => json.to_string().into_bytes(),
        (None, Some(Value::String(text)), None) => text.clone().into_bytes(),
        (None, None, Some(bytes)) => pbjson_bytes(bytes),
        _ => panic!("expected one of json, text and base64 in {entry}"),
    }
}

/// Decodes base64 like pbjson.
fn pbjson_bytes(base64: &Value) -> Vec<u8> {
    let bytes: pbjson::private::BytesDeserialize<Vec<u8>> =
        serde_json::from_value(base64.clone()).unwrap();
    bytes.0
}

fn entries<'a>(vector: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    vector[key].as_array().unwrap().iter()
}

fn vectors() -> Vec<(String, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/vectors");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let list = file["vectors"].as_array().unwrap();
            found.extend(list.iter().map(|vector| (name.clone(), vector.clone())));
        }
    }
    found
}

fn messages_of_the_schema() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    set.file
        .iter()
        .filter(|file| file.package() == "wasmcloud.runtime.v2")
        .flat_map(|file| {
            file.message_type
                .iter()
                .map(|message| message.name().to_owned())
        })
        .collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .to_owned()
}
