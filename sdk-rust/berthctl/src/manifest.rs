//! Reads what to start from a file.

use std::io::Read;
use std::path::Path;

use berth_sdk::json;
use berth_sdk::proto::{Workload, WorkloadStartRequest};
use serde_json::Value;

use crate::failure::Failure;

/// Longest file that is read; brokers take 1 MiB by default, and 64 MiB at most.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// The workload in a file (`-` is stdin), and its id where there is one. The file holds a
/// `WorkloadStartRequest` or just a `Workload`.
pub fn read(file: &Path) -> Result<(Option<String>, Workload), Failure> {
    let failed = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let mut text = Vec::new();
    let source: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file).map_err(|error| failed(error.to_string()))?),
    };
    source
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

fn parse(text: &[u8]) -> Result<(Option<String>, Workload), String> {
    let tree: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let has = |key: &str| tree.get(key).is_some();
    if !(has("workload") || has("workloadId") || has("workload_id")) {
        let workload = json::read::<Workload>(text).map_err(|error| error.to_string())?;
        return Ok((None, known(&tree, workload)?));
    }
    let request = json::read::<WorkloadStartRequest>(text).map_err(|error| error.to_string())?;
    let workload = request.workload.ok_or("there is no `workload`")?;
    Ok((
        Some(request.workload_id).filter(|id| !id.is_empty()),
        workload,
    ))
}

/// A reader ignores what it does not know, so a file of something else altogether is an empty workload.
fn known(tree: &Value, workload: Workload) -> Result<Workload, String> {
    let says_something = tree.as_object().is_some_and(|members| !members.is_empty());
    if says_something && workload == Workload::default() {
        return Err("nothing in it is a field of a Workload or a WorkloadStartRequest".to_owned());
    }
    Ok(workload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_either_message() {
        let (id, workload) = parse(br#"{"workloadId":"a","workload":{"name":"n"}}"#).unwrap();
        assert_eq!((id.as_deref(), workload.name.as_str()), (Some("a"), "n"));
        let (id, workload) = parse(br#"{"name":"n","witWorld":{}}"#).unwrap();
        assert_eq!((id, workload.name.as_str()), (None, "n"));
        assert!(
            parse(br#"{"apiVersion":"v1","kind":"Pod"}"#)
                .unwrap_err()
                .contains("nothing")
        );
        assert!(parse(br#"{"name":7}"#).unwrap_err().contains("`name`"));
        assert!(parse(b"kind: Pod").is_err());
        assert!(
            parse(br#"{"workloadId":"a"}"#)
                .unwrap_err()
                .contains("no `workload`")
        );
    }
}
