//! Reads a workload from a file.

use std::io::Read;
use std::path::Path;

use berth_sdk::json;
use berth_sdk::proto::{Workload, WorkloadStartRequest};
use serde_json::Value;

use crate::failure::Failure;

/// Maximum size of a file; brokers accept 1 MiB by default and 64 MiB at most.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Reads the workload in a file (`-` for stdin), and its ID if present. The file contains a
/// `WorkloadStartRequest` or a `Workload`.
pub fn read(file: &Path) -> Result<(Option<String>, Workload), Failure> {
    let invalid =
        |reason: String| Failure::Usage(format!("cannot read {}: {reason}", file.display()));
    let mut text = Vec::new();
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).map_err(|error| invalid(error.to_string()))?),
    };
    source
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| invalid(error.to_string()))?;
    parse(&text).map_err(invalid)
}

fn parse(text: &[u8]) -> Result<(Option<String>, Workload), String> {
    let tree: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let has = |key: &str| tree.get(key).is_some();
    if !(has("workload") || has("workloadId") || has("workload_id")) {
        let workload = json::decode::<Workload>(text).map_err(|error| error.to_string())?;
        return Ok((None, require_known_field(&tree, workload)?));
    }
    let request = json::decode::<WorkloadStartRequest>(text).map_err(|error| error.to_string())?;
    let workload = request.workload.ok_or("field `workload` is missing")?;
    Ok((
        Some(request.workload_id).filter(|id| !id.is_empty()),
        workload,
    ))
}

/// Rejects a file without any known field. Decoding ignores unknown fields, so it would yield an
/// empty workload.
fn require_known_field(tree: &Value, workload: Workload) -> Result<Workload, String> {
    let has_fields = tree.as_object().is_some_and(|members| !members.is_empty());
    if has_fields && workload == Workload::default() {
        return Err("it contains no field of a Workload or a WorkloadStartRequest".to_owned());
    }
    Ok(workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_either_message() {
        let (id, workload) = parse(br#"{"workloadId":"a","workload":{"name":"n"}}"#).unwrap();
        assert_eq!((id.as_deref(), workload.name.as_str()), (Some("a"), "n"));
        let (id, workload) = parse(br#"{"name":"n","witWorld":{}}"#).unwrap();
        assert_eq!((id, workload.name.as_str()), (None, "n"));
        assert!(
            parse(br#"{"apiVersion":"v1","kind":"Pod"}"#)
                .unwrap_err()
                .contains("no field")
        );
        assert!(parse(br#"{"name":7}"#).unwrap_err().contains("`name`"));
        assert!(parse(b"kind: Pod").is_err());
        assert!(
            parse(br#"{"workloadId":"a"}"#)
                .unwrap_err()
                .contains("`workload` is missing")
        );
    }
}
