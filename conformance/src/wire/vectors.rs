//! Golden vectors of `proto/vectors/`: encodings of requests that a host accepts or refuses.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::base64;

/// Files about the messages that requests contain.
const FILES: &[&str] = &[
    include_str!("../../../proto/vectors/component.json"),
    include_str!("../../../proto/vectors/empty_dir_volume.json"),
    include_str!("../../../proto/vectors/encodings.json"),
    include_str!("../../../proto/vectors/host_path_volume.json"),
    include_str!("../../../proto/vectors/image_pull_secret.json"),
    include_str!("../../../proto/vectors/local_resources.json"),
    include_str!("../../../proto/vectors/service.json"),
    include_str!("../../../proto/vectors/volume.json"),
    include_str!("../../../proto/vectors/volume_mount.json"),
    include_str!("../../../proto/vectors/wit_interface.json"),
    include_str!("../../../proto/vectors/wit_world.json"),
    include_str!("../../../proto/vectors/workload.json"),
    include_str!("../../../proto/vectors/workload_start_request.json"),
    include_str!("../../../proto/vectors/workload_status_request.json"),
    include_str!("../../../proto/vectors/workload_stop_request.json"),
];

#[derive(Debug, Deserialize)]
struct VectorFile {
    vectors: Vec<Vector>,
}

/// A message in its canonical encoding, with encodings that mean the same and invalid encodings.
#[derive(Clone, Debug, Deserialize)]
pub struct Vector {
    /// Name, unique within the file.
    pub name: String,
    /// Message of the schema.
    pub message: String,
    /// Message as a writer encodes it.
    pub canonical: Value,
    /// Other encodings of the same message.
    pub accepts: Vec<Encoding>,
    /// Invalid encodings.
    pub refuses: Vec<Encoding>,
}

/// An encoding of a message. Exactly one of `json`, `text` and `base64` is present.
#[derive(Clone, Debug, Deserialize)]
pub struct Encoding {
    /// Description.
    pub why: String,
    /// Requirement that the entry is based on.
    pub rule: String,
    /// JSON name of the invalid field.
    pub field: Option<String>,
    json: Option<Value>,
    text: Option<String>,
    base64: Option<String>,
}

impl Encoding {
    /// Returns the canonical encoding of a message, which a reader accepts because of `rule`.
    pub fn canonical(message: &Value, rule: &str) -> Encoding {
        Encoding {
            why: "the canonical encoding".to_owned(),
            rule: rule.to_owned(),
            field: None,
            json: Some(message.clone()),
            text: None,
            base64: None,
        }
    }

    /// Returns the encoded message.
    pub fn payload(&self) -> Bytes {
        match (&self.json, &self.text, &self.base64) {
            (Some(json), _, _) => json.to_string().into(),
            (_, Some(text), _) => text.clone().into(),
            (_, _, Some(bytes)) => base64::decode_bytes(bytes).unwrap_or_default().into(),
            (None, None, None) => Bytes::new(),
        }
    }
}

/// Returns all vectors of requests and of the messages within them.
///
/// # Errors
/// Fails if a file of this build is not a file of vectors.
pub fn requests() -> Result<Vec<Vector>, serde_json::Error> {
    let mut vectors = Vec::new();
    for file in FILES {
        vectors.extend(serde_json::from_str::<VectorFile>(file)?.vectors);
    }
    Ok(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::requirements;

    #[test]
    fn every_encoding_has_one_payload_and_a_known_rule() {
        let vectors = requests().unwrap();
        let encodings: Vec<&Encoding> = vectors
            .iter()
            .flat_map(|vector| vector.accepts.iter().chain(&vector.refuses))
            .collect();
        assert!(encodings.len() > 500, "{}", encodings.len());
        for encoding in encodings {
            let payloads = [
                encoding.json.is_some(),
                encoding.text.is_some(),
                encoding.base64.is_some(),
            ];
            let count = payloads.iter().filter(|present| **present).count();
            assert_eq!(count, 1, "{encoding:?}");
            assert!(
                requirements::by_id(&encoding.rule).is_some(),
                "{encoding:?}"
            );
        }
    }
}
