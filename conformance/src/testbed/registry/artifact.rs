//! What is pushed: the bytes of one layer, its manifest, and their digests.

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

/// The media type of a layer that holds a component.
pub const WASM_LAYER: &str = "application/wasm";
/// The media type of the manifests that the registry makes.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// An image of one layer, before it is pushed.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The content of the layer.
    pub bytes: Bytes,
    /// The media type that the manifest gives the layer.
    pub layer_media_type: String,
    /// The size that the manifest gives the layer, when it is to be other than the truth.
    pub declared_layer_bytes: Option<u64>,
}

impl Artifact {
    /// A component, described truthfully.
    pub fn wasm(bytes: impl Into<Bytes>) -> Artifact {
        Artifact {
            bytes: bytes.into(),
            layer_media_type: WASM_LAYER.to_owned(),
            declared_layer_bytes: None,
        }
    }

    /// The same artifact under another layer media type.
    pub fn with_layer_media_type(self, layer_media_type: &str) -> Artifact {
        Artifact {
            layer_media_type: layer_media_type.to_owned(),
            ..self
        }
    }

    /// The same artifact, its manifest claiming another layer size.
    pub fn with_declared_layer_bytes(self, bytes: u64) -> Artifact {
        Artifact {
            declared_layer_bytes: Some(bytes),
            ..self
        }
    }

    /// The same behaviour under a digest of its own, so that no cache of the host has it already.
    ///
    /// WebAssembly gets a custom section that holds `salt`; what is not WebAssembly stays as it is.
    pub fn salted(self, salt: &str) -> Artifact {
        Artifact {
            bytes: salted(&self.bytes, salt),
            ..self
        }
    }
}

/// Where an artifact can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// `AUTHORITY/REPOSITORY:TAG`.
    pub reference: String,
    /// `AUTHORITY/REPOSITORY@DIGEST`.
    pub digest_reference: String,
    /// The digest of the manifest.
    pub digest: String,
    /// The digest of the layer.
    pub layer_digest: String,
}

/// The three contents of an image, each with its digest.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub manifest: Content,
    pub config: Content,
    pub layer: Content,
}

#[derive(Clone, Debug)]
pub(super) struct Content {
    pub digest: String,
    pub bytes: Bytes,
}

impl Content {
    pub fn of(bytes: Bytes) -> Content {
        Content {
            digest: digest(&bytes),
            bytes,
        }
    }
}

/// The component that a host runs when it does not notice that it was given another manifest.
const DECOY: &[u8] = b"\0asm\x0d\0\x01\0";

impl Image {
    /// Another image than the one that was asked for: an empty component, which any host can run.
    pub fn decoy() -> Image {
        Image::of(Artifact::wasm(DECOY))
    }

    pub fn of(artifact: Artifact) -> Image {
        let layer = Content::of(artifact.bytes);
        let config = Content::of(Bytes::from(
            json!({
                "created": "2026-01-01T00:00:00Z",
                "architecture": "wasm",
                "os": "wasip2",
                "layerDigests": [layer.digest],
            })
            .to_string(),
        ));
        let layer_bytes = artifact
            .declared_layer_bytes
            .unwrap_or(layer.bytes.len() as u64);
        let manifest = Content::of(Bytes::from(
            json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": WASM_CONFIG,
                    "digest": config.digest,
                    "size": config.bytes.len(),
                },
                "layers": [{
                    "mediaType": artifact.layer_media_type,
                    "digest": layer.digest,
                    "size": layer_bytes,
                }],
            })
            .to_string(),
        ));
        Image {
            manifest,
            config,
            layer,
        }
    }
}

/// `sha256:` and the hexadecimal hash.
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let mut text = String::from("sha256:");
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn salted(bytes: &Bytes, salt: &str) -> Bytes {
    const SECTION_NAME: &[u8] = b"berth:salt";
    if !bytes.starts_with(b"\0asm") {
        return bytes.clone();
    }
    let mut section = vec![SECTION_NAME.len() as u8];
    section.extend_from_slice(SECTION_NAME);
    section.extend_from_slice(salt.as_bytes());
    let mut whole = bytes.to_vec();
    whole.push(0);
    let mut rest = section.len();
    loop {
        let septet = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            whole.push(septet);
            break;
        }
        whole.push(septet | 0x80);
    }
    whole.extend_from_slice(&section);
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_digests_of_what_it_describes() {
        let image = Image::of(Artifact::wasm("abc"));
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        assert_eq!(
            manifest["layers"][0]["digest"],
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(manifest["layers"][0]["size"], 3);
        assert_eq!(manifest["config"]["digest"], digest(&image.config.bytes));
    }

    #[test]
    fn salt_changes_the_digest_of_wasm_and_leaves_it_valid() {
        let module = Bytes::from(wat::parse_str("(module)").unwrap());
        let long = "s".repeat(300);
        let salted = Artifact::wasm(module.clone()).salted(&long).bytes;
        assert_ne!(digest(&salted), digest(&module));
        assert!(salted.starts_with(&module));
        // Section id, two bytes of length (311 = 0xb7 0x02), then the section itself.
        assert_eq!(salted[module.len()..module.len() + 3], [0, 0xb7, 0x02]);
        assert_eq!(salted.len(), module.len() + 3 + 311);
        let text = Artifact::wasm("text").salted("a").bytes;
        assert_eq!(text, "text");
    }
}
