//! Reads a workload from a file.

use std::io::Read;
use std::path::Path;

use berth_sdk::json;
use berth_sdk::proto::{Workload, WorkloadStartRequest};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::field_names;
use crate::print::note;

/// Maximum size of a file; brokers accept 1 MiB by default and 64 MiB at most.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Treatment of fields that the schema does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// Error: hosts ignore such fields, so that a typing error would change nothing, silently.
    Refuse,
    /// Note on stderr.
    Ignore,
}

/// Reads the workload in a file (`-` for stdin), and its ID if present. The file contains a
/// `WorkloadStartRequest` or a `Workload`, as JSON or YAML.
pub fn read(
    file: &Path,
    unknown_fields: UnknownFields,
) -> Result<(Option<String>, Workload), Failure> {
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
    parse(&text, unknown_fields).map_err(invalid)
}

fn parse(text: &[u8], unknown_fields: UnknownFields) -> Result<(Option<String>, Workload), String> {
    let text = to_json(text)?;
    let tree: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    reject_manifest(&tree)?;
    let has = |key: &str| tree.get(key).is_some();
    let (id, workload) = if has("workload") || has("workloadId") || has("workload_id") {
        let request: WorkloadStartRequest = decode(&text, unknown_fields)?;
        let id = Some(request.workload_id).filter(|id| !id.is_empty());
        (id, request.workload.ok_or("field `workload` is missing")?)
    } else {
        (None, decode(&text, unknown_fields)?)
    };
    require_image(&workload)?;
    Ok((id, workload))
}

/// Returns the text as JSON. A file that does not begin with `{` is YAML.
fn to_json(text: &[u8]) -> Result<Vec<u8>, String> {
    if text.trim_ascii_start().first() == Some(&b'{') {
        return Ok(text.to_vec());
    }
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let tree: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    serde_json::to_vec(&tree).map_err(|error| error.to_string())
}

/// Rejects a manifest, whose fields have other names, with the command that accepts it.
fn reject_manifest(tree: &Value) -> Result<(), String> {
    let text = |key: &str| tree.get(key).and_then(Value::as_str);
    match (text("apiVersion"), text("kind")) {
        (Some(version), Some(kind)) => Err(format!(
            "it is a manifest ({version}, {kind}) for a scheduler, not a request to a host: apply \
             it with `kubectl apply -f FILE`, or place it in the directory of `berthctl dev DIR`"
        )),
        _ => Ok(()),
    }
}

fn decode<M: DeserializeOwned>(text: &[u8], unknown_fields: UnknownFields) -> Result<M, String> {
    let (message, unknown) =
        json::decode_and_list_unknown(text).map_err(|error| error.to_string())?;
    if unknown.is_empty() {
        return Ok(message);
    }
    let listed: Vec<String> = unknown.iter().map(|path| describe_unknown(path)).collect();
    let listed = listed.join("; ");
    match unknown_fields {
        UnknownFields::Refuse => Err(format!("{listed} (ignored with --lenient)")),
        UnknownFields::Ignore => {
            note(&format!("ignored: {listed}"));
            Ok(message)
        }
    }
}

fn describe_unknown(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match field_names::nearest(name) {
        Some(nearest) => format!("unknown field `{path}`; did you mean `{nearest}`?"),
        None => format!("unknown field `{path}`"),
    }
}

/// A host runs an empty workload without complaint, but nobody writes one on purpose.
fn require_image(workload: &Workload) -> Result<(), String> {
    let components = workload.wit_world.as_ref();
    let has_components = components.is_some_and(|world| !world.components.is_empty());
    if has_components || workload.service.is_some() {
        return Ok(());
    }
    Err("the workload has neither `witWorld.components` nor `service`: nothing would run".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Result<(Option<String>, Workload), String> {
        parse(text.as_bytes(), UnknownFields::Refuse)
    }

    #[test]
    fn parses_either_message() {
        let request = r#"{"workloadId":"a","workload":{"name":"n","service":{"image":"i"}}}"#;
        let (id, workload) = strict(request).unwrap();
        assert_eq!((id.as_deref(), workload.name.as_str()), (Some("a"), "n"));
        let (id, workload) = strict(r#" {"name":"n","service":{"image":"i"}}"#).unwrap();
        assert_eq!((id, workload.name.as_str()), (None, "n"));
        let yaml = "name: n\nwitWorld:\n  components:\n  - image: i\n    poolSize: 2\n";
        let (_, workload) = strict(yaml).unwrap();
        assert_eq!(workload.wit_world.unwrap().components[0].pool_size, 2);
    }

    #[test]
    fn errors_name_the_field_and_the_near_spelling() {
        for (text, expected) in [
            (r#"{"name":7}"#, "field `name`"),
            ("name: [", "line 1"),
            (r#"{"workloadId":"a"}"#, "`workload` is missing"),
            ("{}", "neither `witWorld.components` nor `service`"),
            (r#"{"name":"n"}"#, "nothing would run"),
            (
                r#"{"service":{"image":"i"},"witWorld":{"component":[]}}"#,
                "unknown field `witWorld.component`; did you mean `components`?",
            ),
            (
                "service: {image: i, maxRestart: 3}",
                "unknown field `service.maxRestart`; did you mean `maxRestarts`?",
            ),
            (
                r#"{"service":{"image":"i"},"zzz":1}"#,
                "unknown field `zzz` (ignored",
            ),
            (
                "apiVersion: runtime.wasmcloud.dev/v1alpha1\nkind: WorkloadDeployment\n",
                "kubectl apply -f FILE",
            ),
        ] {
            let error = strict(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn lenient_reading_ignores_unknown_fields() {
        let text = br#"{"service":{"image":"i","later":1}}"#;
        let (_, workload) = parse(text, UnknownFields::Ignore).unwrap();
        assert_eq!(workload.service.unwrap().image, "i");
    }
}
