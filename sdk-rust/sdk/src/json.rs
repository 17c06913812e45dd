//! JSON of the protocol: strict encoding, lenient decoding.

mod tree;
mod unreadable;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Maximum nesting depth of a message. The schema needs seven levels; the rest is reserved for
/// later revisions.
pub const MAX_DEPTH: usize = 64;

/// Maximum number of values in one message. Without a limit, 1 MB of `0,` would need many times its
/// size in memory.
pub const MAX_VALUES: usize = 65_536;

/// Reason a message cannot be decoded. It quotes no value, because a value may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The payload is empty.
    #[error("the payload is empty")]
    Empty,
    /// The payload is not one JSON object; the text names the error and its position.
    #[error("the payload is not one JSON object: {0}")]
    Syntax(String),
    /// A field has an invalid value.
    #[error("field `{path}`: {problem}")]
    Field {
        /// Path from the top of the message, such as `workload.witWorld.components[0].poolSize`.
        path: String,
        /// Description of the problem.
        problem: String,
    },
}

/// Reason a message cannot be encoded: an enum field holds a number that has no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode message as JSON: {reason}")]
pub struct EncodeError {
    reason: String,
}

/// Decodes a message as leniently as the protocol demands: unknown fields are ignored, null means
/// unset, numbers may be strings, enums may be numbers, and both names of a field are accepted.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, DecodeError> {
    if payload.is_empty() {
        return Err(DecodeError::Empty);
    }
    let tree = tree::parse(payload)?;
    serde_path_to_error::deserialize(tree).map_err(field_error)
}

/// Decodes a message like [`decode`], and returns the paths of the fields that the schema does not
/// have, for programs whose users write messages by hand.
///
/// # Errors
///
/// Fails where [`decode`] fails.
pub fn decode_and_list_unknown<M: DeserializeOwned>(
    payload: &[u8],
) -> Result<(M, Vec<String>), DecodeError> {
    let tree = tree::parse(payload)?;
    let mut unknown = Vec::new();
    // An optional message adds a step `?` to the path.
    let mut record =
        |path: serde_ignored::Path<'_>| unknown.push(path.to_string().replace(".?", ""));
    let fields = serde_ignored::Deserializer::new(tree, &mut record);
    let message = serde_path_to_error::deserialize(fields).map_err(field_error)?;
    Ok((message, unknown))
}

fn field_error(error: serde_path_to_error::Error<serde_json::Error>) -> DecodeError {
    DecodeError::Field {
        path: error.path().to_string(),
        problem: without_value(&error.inner().to_string()),
    }
}

/// Encodes a message in the canonical form: JSON names, enum names, 64-bit integers as strings, no
/// nulls, defaults omitted.
///
/// # Errors
///
/// Fails only if an enum field holds a number that has no name.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, EncodeError> {
    serde_json::to_vec(message).map_err(|error| EncodeError {
        reason: error.to_string(),
    })
}

/// Removes the quoted value from an error message of serde.
fn without_value(message: &str) -> String {
    if let Some(at) = message.rfind(", expected ") {
        return message.get(at + 2..).unwrap_or_default().to_owned();
    }
    let valueless = [
        "duplicate field",
        "multiple oneof",
        "number too",
        "invalid digit",
    ];
    if valueless.iter().any(|prefix| message.starts_with(prefix)) {
        return message.to_owned();
    }
    if message.starts_with("data did not match any variant") {
        return "expected a number within the range of the field".to_owned();
    }
    "cannot read the value".to_owned()
}

#[cfg(test)]
mod tests {
    use berth_proto::{HostHeartbeat, WorkloadStartRequest};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decoding_never_panics(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            text in r#"(\{|\}|\[|\]|:|,|"workload"|"workloadId"|"service"|null|1e99|-0|"x"| ){0,30}"#,
        ) {
            let _ = decode::<WorkloadStartRequest>(&noise);
            let _ = decode::<WorkloadStartRequest>(text.as_bytes());
        }

        #[test]
        fn decodes_encoded_messages(id in ".*", name in ".*", restarts: u64, limit: i32) {
            let service = berth_proto::Service {
                max_restarts: restarts,
                local_resources: Some(berth_proto::LocalResources {
                    memory_limit_mb: limit,
                    environment: [(name.clone(), id.clone())].into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let workload =
                berth_proto::Workload { name, service: Some(service), ..Default::default() };
            let request = WorkloadStartRequest { workload_id: id, workload: Some(workload) };
            let decoded = decode::<WorkloadStartRequest>(&encode(&request).unwrap());
            prop_assert_eq!(decoded, Ok(request));
        }
    }

    fn start(text: &str) -> Result<WorkloadStartRequest, DecodeError> {
        decode(text.as_bytes())
    }

    #[test]
    fn decoding_is_lenient() {
        let lenient = start(
            r#"{"workload_id":"a","later":{"x":[1,{"y":null}]},"workload":{"name":null,"service":
            {"maxRestarts":3.0,"image_pull_policy":2,"localResources":{"memoryLimitMb":"64","config":
            {"k":null,"l":"m"}}},"witWorld":{"components":[{"poolSize":null,"image":"i"}]}}}"#,
        );
        let strict = start(
            r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"3",
            "imagePullPolicy":"IMAGE_PULL_POLICY_IF_NOT_PRESENT","localResources":{
            "memoryLimitMb":64,"config":{"l":"m"}}},"witWorld":{"components":[{"image":"i"}]}}}"#,
        );
        assert_eq!(lenient.unwrap(), strict.unwrap());
        let heartbeat: HostHeartbeat =
            decode(br#"{"systemCpuUsage":3.0,"systemMemoryTotal":7,"startedAt":"2020-01-01T00:00:00+01:00"}"#)
                .unwrap();
        assert_eq!(
            (heartbeat.system_cpu_usage, heartbeat.system_memory_total),
            (3.0, 7)
        );
        assert_eq!(heartbeat.started_at.unwrap().seconds, 1_577_833_200);
    }

    #[test]
    fn lists_unknown_fields_at_every_level() {
        let (_, unknown) = decode_and_list_unknown::<WorkloadStartRequest>(
            br#"{"workload_id":"a","id":1,"workload":{"witWorld":{"components":[{},{"pool":1}]}}}"#,
        )
        .unwrap();
        assert_eq!(unknown, ["id", "workload.witWorld.components.1.pool"]);
        let known = br#"{"workloadId":"a","workload":{"name":null,"service":{"image":"i"}}}"#;
        let (_, unknown) = decode_and_list_unknown::<WorkloadStartRequest>(known).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn errors_name_the_path_of_the_field() {
        let cases = [
            (
                r#"{"workloadId":7}"#,
                "field `workloadId`: expected a string",
            ),
            (
                r#"{"workload":{"witWorld":{"components":[{},{"poolSize":"many"}]}}}"#,
                "field `workload.witWorld.components[1].poolSize`: invalid digit found in string",
            ),
            (
                r#"{"workload":{"witWorld":{"components":[{"poolSize":4294967296}]}}}"#,
                "field `workload.witWorld.components[0].poolSize`: expected a number within the \
                 range of the field",
            ),
            (
                r#"{"workload":{"service":{"imagePullSecret":"hunter2"}}}"#,
                "field `workload.service.imagePullSecret`: expected struct \
                 wasmcloud.runtime.v2.ImagePullSecret",
            ),
            (
                r#"{"workload":{"volumes":[{"hostPath":{},"emptyDir":{}}]}}"#,
                "field `workload.volumes[0]`: duplicate field `emptyDir`",
            ),
            (
                r#"{"workloadId":"a","workload_id":"a"}"#,
                "field `.`: duplicate field `workloadId`",
            ),
            (
                r#"{"workload":{"a":{"b":1,"b":2}}}"#,
                "field `workload.a`: the key \"b\" appears twice in one object at line 1 column 27",
            ),
            (
                r#"[]"#,
                "the payload is not one JSON object: it begins with an array",
            ),
            (
                r#"{} {}"#,
                "the payload is not one JSON object: trailing characters at line 1 column 4",
            ),
            ("", "the payload is empty"),
        ];
        for (text, expected) in cases {
            let error = start(text).unwrap_err().to_string();
            assert!(
                error.starts_with(expected),
                "{text}\n  {error}\n  {expected}"
            );
        }
    }

    #[test]
    fn rejects_hostile_payloads() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let wide = format!("{{\"x\":[{}0]}}", "0,".repeat(MAX_VALUES));
        for payload in [
            deep.as_bytes(),
            wide.as_bytes(),
            b"{\"workloadId\":\"\xff\"}",
            b"null",
        ] {
            assert!(decode::<WorkloadStartRequest>(payload).is_err());
        }
        let allowed = format!(
            "{{\"x\":{}{}}}",
            "[".repeat(MAX_DEPTH - 1),
            "]".repeat(MAX_DEPTH - 1)
        );
        assert!(start(&allowed).is_ok());
    }
}
