//! The golden vectors, as far as the generated code alone has to obey them.
//!
//! What it does not do by itself (null for a field that is no message, keys given twice in a map
//! or in what is unknown) is the business of the reader in berth-sdk, and tested there.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use berth_proto as proto;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Null as unset: the reader in berth-sdk.
const NULLS: &str = "HOST-JSON-013";
/// A key given twice: the reader in berth-sdk.
const REPEATED_KEYS: &str = "HOST-JSON-017";

#[test]
fn every_message_obeys_its_vectors() {
    let mut failures = Vec::new();
    let mut tried = 0;
    let mut messages = BTreeSet::new();
    for (file, vector) in vectors() {
        let message = text(&vector, "message");
        messages.insert(message.clone());
        let place = format!("{file}: {}", text(&vector, "name"));
        let (count, wrong) = judge(&message, &vector);
        tried += count;
        failures.extend(wrong.into_iter().map(|wrong| format!("{place}: {wrong}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(tried > 600, "only {tried} payloads were tried");
    let known: BTreeSet<String> = messages_of_the_schema();
    assert_eq!(
        messages, known,
        "each message has vectors, and each vector a message"
    );
}

fn judge(message: &str, vector: &Value) -> (usize, Vec<String>) {
    match message {
        "Component" => judge_as::<proto::Component>(vector),
        "EmptyDirVolume" => judge_as::<proto::EmptyDirVolume>(vector),
        "HostHeartbeat" => judge_as::<proto::HostHeartbeat>(vector),
        "HostHeartbeatRequest" => judge_as::<proto::HostHeartbeatRequest>(vector),
        "HostPathVolume" => judge_as::<proto::HostPathVolume>(vector),
        "ImagePullSecret" => judge_as::<proto::ImagePullSecret>(vector),
        "LocalResources" => judge_as::<proto::LocalResources>(vector),
        "Service" => judge_as::<proto::Service>(vector),
        "Volume" => judge_as::<proto::Volume>(vector),
        "VolumeMount" => judge_as::<proto::VolumeMount>(vector),
        "WitInterface" => judge_as::<proto::WitInterface>(vector),
        "WitWorld" => judge_as::<proto::WitWorld>(vector),
        "Workload" => judge_as::<proto::Workload>(vector),
        "WorkloadStartRequest" => judge_as::<proto::WorkloadStartRequest>(vector),
        "WorkloadStartResponse" => judge_as::<proto::WorkloadStartResponse>(vector),
        "WorkloadStatus" => judge_as::<proto::WorkloadStatus>(vector),
        "WorkloadStatusRequest" => judge_as::<proto::WorkloadStatusRequest>(vector),
        "WorkloadStatusResponse" => judge_as::<proto::WorkloadStatusResponse>(vector),
        "WorkloadStopRequest" => judge_as::<proto::WorkloadStopRequest>(vector),
        "WorkloadStopResponse" => judge_as::<proto::WorkloadStopResponse>(vector),
        _ => (0, vec![format!("no message {message}")]),
    }
}

fn judge_as<M>(vector: &Value) -> (usize, Vec<String>)
where
    M: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned,
{
    let mut wrong = Vec::new();
    let canonical = &vector["canonical"];
    let expected: M = match serde_json::from_str(&canonical.to_string()) {
        Ok(message) => message,
        Err(error) => return (1, vec![format!("canonical is refused: {error}")]),
    };
    // Through text: a value would widen the float.
    let written: Value = serde_json::from_str(&serde_json::to_string(&expected).unwrap()).unwrap();
    if comparable(&written) != comparable(canonical) {
        wrong.push(format!("written as {written}"));
    }
    if M::decode(expected.encode_to_vec().as_slice()).as_ref() != Ok(&expected) {
        wrong.push("the binary form does not come back".to_owned());
    }
    let mut tried = 1;
    for entry in entries(vector, "accepts").filter(|entry| entry["rule"] != NULLS) {
        tried += 1;
        match serde_json::from_slice::<M>(&payload(entry)) {
            Ok(read) if read == expected => {}
            Ok(read) => wrong.push(format!("{}: read as {read:?}", entry["why"])),
            Err(error) => wrong.push(format!("{}: refused: {error}", entry["why"])),
        }
    }
    for entry in entries(vector, "refuses").filter(|entry| entry["rule"] != REPEATED_KEYS) {
        tried += 1;
        if let Ok(read) = serde_json::from_slice::<M>(&payload(entry)) {
            wrong.push(format!(
                "{}: not refused but read as {read:?}",
                entry["why"]
            ));
        }
    }
    (tried, wrong)
}

/// The value with the one timestamp brought to one spelling.
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
                    let single: f32 = number.to_string().parse().unwrap();
                    (key.clone(), Value::from(single))
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
        _ => panic!("exactly one of json, text and base64 in {entry}"),
    }
}

/// Base64 as pbjson reads it.
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
