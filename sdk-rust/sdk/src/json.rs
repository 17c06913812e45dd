//! The JSON of the protocol: a strict writer and a liberal reader.

mod tree;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deepest nesting of a message that is read; the schema needs seven levels, the rest is left to
/// later revisions.
pub const MAX_DEPTH: usize = 64;

/// Most values in one message; 1 MB of `0,` would otherwise become many times its size in memory.
pub const MAX_VALUES: usize = 65_536;

/// Why a message cannot be read. It quotes no value: values may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is nothing.
    #[error("the payload is empty")]
    Empty,
    /// It is not one JSON object; the text says what and where.
    #[error("the payload is not one JSON object: {0}")]
    Syntax(String),
    /// A field holds what it cannot hold.
    #[error("field `{path}`: {problem}")]
    Field {
        /// From the top of the message, as `workload.witWorld.components[0].poolSize`.
        path: String,
        /// What is wrong, in words.
        problem: String,
    },
}

/// Reads a message as liberally as the protocol demands: unknown fields are ignored, null means unset,
/// numbers may be strings, enums may be numbers, both names of a field are known.
pub fn read<M: DeserializeOwned>(payload: &[u8]) -> Result<M, ReadError> {
    if payload.is_empty() {
        return Err(ReadError::Empty);
    }
    let tree = tree::parse(payload)?;
    serde_path_to_error::deserialize(tree).map_err(|error| ReadError::Field {
        path: error.path().to_string(),
        problem: problem(&error.inner().to_string()),
    })
}

/// Writes a message in the canonical form: JSON names, enum names, 64-bit integers as strings, no
/// nulls, defaults left out.
///
/// # Errors
///
/// A number of an enum that has no name, and nothing else.
pub fn write<M: Serialize>(message: &M) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(message)
}

/// What serde says, without the value that it quotes.
fn problem(serde_says: &str) -> String {
    if let Some(at) = serde_says.rfind(", expected ") {
        return serde_says.get(at + 2..).unwrap_or_default().to_owned();
    }
    let quotes_nothing = [
        "duplicate field",
        "multiple oneof",
        "number too",
        "invalid digit",
    ];
    if quotes_nothing
        .iter()
        .any(|beginning| serde_says.starts_with(beginning))
    {
        return serde_says.to_owned();
    }
    if serde_says.starts_with("data did not match any variant") {
        return "expected a number within the range of the field".to_owned();
    }
    "holds a value that cannot be read".to_owned()
}

#[cfg(test)]
mod tests {
    use berth_proto::{HostHeartbeat, WorkloadStartRequest};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            text in r#"(\{|\}|\[|\]|:|,|"workload"|"workloadId"|"service"|null|1e99|-0|"x"| ){0,30}"#,
        ) {
            let _ = read::<WorkloadStartRequest>(&noise);
            let _ = read::<WorkloadStartRequest>(text.as_bytes());
        }

        #[test]
        fn what_is_written_is_read(id in ".*", name in ".*", restarts: u64, limit: i32) {
            let service = berth_proto::Service {
                max_restarts: restarts,
                local_resources: Some(berth_proto::LocalResources {
                    memory_limit_mb: limit,
                    environment: [(name.clone(), id.clone())].into(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            let workload = berth_proto::Workload { name, service: Some(service), ..Default::default() };
            let request = WorkloadStartRequest { workload_id: id, workload: Some(workload) };
            prop_assert_eq!(read::<WorkloadStartRequest>(&write(&request).unwrap()), Ok(request));
        }
    }

    fn start(text: &str) -> Result<WorkloadStartRequest, ReadError> {
        read(text.as_bytes())
    }

    #[test]
    fn the_reader_is_liberal() {
        let liberal = start(
            r#"{"workload_id":"a","later":{"x":[1,{"y":null}]},"workload":{"name":null,"service":
            {"maxRestarts":3.0,"image_pull_policy":2,"localResources":{"memoryLimitMb":"64","config":
            {"k":null,"l":"m"}}},"witWorld":{"components":[{"poolSize":null,"image":"i"}]}}}"#,
        );
        let strict = start(
            r#"{"workloadId":"a","workload":{"service":{"maxRestarts":"3",
            "imagePullPolicy":"IMAGE_PULL_POLICY_IF_NOT_PRESENT","localResources":{
            "memoryLimitMb":64,"config":{"l":"m"}}},"witWorld":{"components":[{"image":"i"}]}}}"#,
        );
        assert_eq!(liberal.unwrap(), strict.unwrap());
        let beat: HostHeartbeat =
            read(br#"{"systemCpuUsage":3.0,"systemMemoryTotal":7,"startedAt":"2020-01-01T00:00:00+01:00"}"#)
                .unwrap();
        assert_eq!((beat.system_cpu_usage, beat.system_memory_total), (3.0, 7));
        assert_eq!(beat.started_at.unwrap().seconds, 1_577_833_200);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
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
                "field `workload.a`: the key \"b\" stands twice in one object at line 1 column 27",
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
    fn hostile_payloads_are_refused() {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let wide = format!("{{\"x\":[{}0]}}", "0,".repeat(MAX_VALUES));
        for payload in [
            deep.as_bytes(),
            wide.as_bytes(),
            b"{\"workloadId\":\"\xff\"}",
            b"null",
        ] {
            assert!(read::<WorkloadStartRequest>(payload).is_err());
        }
        let allowed = format!(
            "{{\"x\":{}{}}}",
            "[".repeat(MAX_DEPTH - 1),
            "]".repeat(MAX_DEPTH - 1)
        );
        assert!(start(&allowed).is_ok());
    }
}
