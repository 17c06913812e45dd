//! Pushed content: a layer, its manifest, and their digests.

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};

/// Media type of a layer that contains a component.
pub const WASM_LAYER: &str = "application/wasm";
/// Media type of the manifests that the registry creates.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// An image with one layer, before it is pushed.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Content of the layer.
    pub bytes: Bytes,
    /// Media type of the layer in the manifest.
    pub layer_media_type: String,
    /// Size of the layer in the manifest, if it differs from the real size.
    pub declared_layer_bytes: Option<u64>,
}

impl Artifact {
    /// Creates an image of a component, with its real media type and size in the manifest.
    pub fn wasm(bytes: impl Into<Bytes>) -> Artifact {
        Artifact {
            bytes: bytes.into(),
            layer_media_type: WASM_LAYER.to_owned(),
            declared_layer_bytes: None,
        }
    }

    /// Changes the media type of the layer.
    pub fn with_layer_media_type(self, layer_media_type: &str) -> Artifact {
        Artifact {
            layer_media_type: layer_media_type.to_owned(),
            ..self
        }
    }

    /// Changes the size of the layer in the manifest.
    pub fn with_declared_layer_bytes(self, bytes: u64) -> Artifact {
        Artifact {
            declared_layer_bytes: Some(bytes),
            ..self
        }
    }

    /// Changes the digest but not the behavior, so that the image is in no cache of the host.
    ///
    /// WebAssembly gets a custom section with `salt`; other content is unchanged.
    pub fn salted(self, salt: &str) -> Artifact {
        Artifact {
            bytes: salted(&self.bytes, salt),
            ..self
        }
    }
}

/// References to a pushed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedImage {
    /// `AUTHORITY/REPOSITORY:TAG`.
    pub reference: String,
    /// `AUTHORITY/REPOSITORY@DIGEST`.
    pub digest_reference: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Digest of the layer.
    pub layer_digest: String,
}

/// The parts of an image, each with its digest.
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

/// The component that a host runs if it does not verify the digest of the manifest.
const DECOY: &[u8] = b"\0asm\x0d\0\x01\0";

impl Image {
    /// Returns a different image: an empty component, which any host can run.
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

/// Returns `sha256:` and the hexadecimal hash.
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
    let mut salted = bytes.to_vec();
    salted.push(0);
    let mut remaining = section.len();
    loop {
        let septet = (remaining & 0x7f) as u8;
        remaining >>= 7;
        if remaining == 0 {
            salted.push(septet);
            break;
        }
        salted.push(septet | 0x80);
    }
    salted.extend_from_slice(&section);
    salted.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifest_contains_the_digests_of_its_content() {
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
    fn salt_changes_the_digest_and_keeps_wasm_valid() {
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
