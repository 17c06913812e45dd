//! The golden vectors in `proto/vectors/`, which all languages share.

use std::fmt::Debug;
use std::path::PathBuf;

use berth_sdk::json::{self, DecodeError};
use berth_sdk::proto;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[test]
fn decodes_and_encodes_every_vector() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto/vectors"));
    let mut checked = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for vector in file["vectors"].as_array().unwrap() {
                checked += 1;
                check(vector, &mut wrong);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        checked >= 20,
        "found only {checked} vectors in {}",
        folder.display()
    );
}

fn check(vector: &Value, wrong: &mut Vec<String>) {
    match vector["message"].as_str().unwrap() {
        "Component" => check_as::<proto::Component>(vector, wrong),
        "EmptyDirVolume" => check_as::<proto::EmptyDirVolume>(vector, wrong),
        "HostHeartbeat" => check_as::<proto::HostHeartbeat>(vector, wrong),
        "HostHeartbeatRequest" => check_as::<proto::HostHeartbeatRequest>(vector, wrong),
        "HostPathVolume" => check_as::<proto::HostPathVolume>(vector, wrong),
        "ImagePullSecret" => check_as::<proto::ImagePullSecret>(vector, wrong),
        "LocalResources" => check_as::<proto::LocalResources>(vector, wrong),
        "Service" => check_as::<proto::Service>(vector, wrong),
        "Volume" => check_as::<proto::Volume>(vector, wrong),
        "VolumeMount" => check_as::<proto::VolumeMount>(vector, wrong),
        "WitInterface" => check_as::<proto::WitInterface>(vector, wrong),
        "WitWorld" => check_as::<proto::WitWorld>(vector, wrong),
        "Workload" => check_as::<proto::Workload>(vector, wrong),
        "WorkloadStartRequest" => check_as::<proto::WorkloadStartRequest>(vector, wrong),
        "WorkloadStartResponse" => check_as::<proto::WorkloadStartResponse>(vector, wrong),
        "WorkloadStatus" => check_as::<proto::WorkloadStatus>(vector, wrong),
        "WorkloadStatusRequest" => check_as::<proto::WorkloadStatusRequest>(vector, wrong),
        "WorkloadStatusResponse" => check_as::<proto::WorkloadStatusResponse>(vector, wrong),
        "WorkloadStopRequest" => check_as::<proto::WorkloadStopRequest>(vector, wrong),
        "WorkloadStopResponse" => check_as::<proto::WorkloadStopResponse>(vector, wrong),
        other => wrong.push(format!("unknown message {other}")),
    }
}

fn check_as<M: DeserializeOwned + Serialize + PartialEq + Debug>(
    vector: &Value,
    wrong: &mut Vec<String>,
) {
    let name = format!("{} / {}", vector["message"], vector["name"]);
    let canonical = &vector["canonical"];
    let message: M = match json::decode(canonical.to_string().as_bytes()) {
        Ok(message) => message,
        Err(error) => return wrong.push(format!("{name}: canonical form is rejected: {error}")),
    };
    let encoded: Value = serde_json::from_slice(&json::encode(&message).unwrap()).unwrap();
    if comparable(&encoded) != comparable(canonical) {
        wrong.push(format!("{name}: encoded as {encoded}"));
    }
    for other in vector["accepts"].as_array().into_iter().flatten() {
        match json::decode::<M>(&payload(other)) {
            Ok(decoded) if decoded == message => {}
            Ok(decoded) => wrong.push(format!("{name}: {}: decoded as {decoded:?}", other["why"])),
            Err(error) => wrong.push(format!("{name}: {}: rejected: {error}", other["why"])),
        }
    }
    for other in vector["refuses"].as_array().into_iter().flatten() {
        match json::decode::<M>(&payload(other)) {
            Ok(decoded) => wrong.push(format!("{name}: {}: accepted as {decoded:?}", other["why"])),
            Err(error) => check_field(&name, other, &error, wrong),
        }
    }
}

/// Checks that the error names the invalid field (HOST-JSON-018).
fn check_field(name: &str, rejected: &Value, error: &DecodeError, wrong: &mut Vec<String>) {
    let Some(field) = rejected["field"].as_str() else {
        return;
    };
    if !error.to_string().contains(field) {
        wrong.push(format!(
            "{name}: {}: {error}: does not name field {field}",
            rejected["why"]
        ));
    }
}

fn payload(entry: &Value) -> Vec<u8> {
    if let Some(text) = entry["text"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let Some(base64) = entry["base64"].as_str() {
        return data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    }
    entry["json"].to_string().into_bytes()
}

/// Normalizes key order and the format of timestamps and floats.
fn comparable(value: &Value) -> Value {
    let Value::Object(members) = value else {
        return match value {
            Value::Array(items) => items.iter().map(comparable).collect(),
            other => other.clone(),
        };
    };
    let normalized = |key: &String, value: &Value| match (key.as_str(), value) {
        ("startedAt", instant @ Value::String(_)) => {
            let instant: pbjson_types::Timestamp = serde_json::from_value(instant.clone()).unwrap();
            Value::from(format!("{}.{:09}", instant.seconds, instant.nanos))
        }
        ("systemCpuUsage", Value::Number(number)) =>
        {
            #[allow(clippy::cast_possible_truncation)]
            Value::from(number.as_f64().unwrap() as f32)
        }
        (_, value) => comparable(value),
    };
    let mut sorted: Vec<_> = members
        .iter()
        .map(|(k, v)| (k.clone(), normalized(k, v)))
        .collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    Value::Object(sorted.into_iter().collect())
}
