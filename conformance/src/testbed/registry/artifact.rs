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
    /// Digest of the layer in the manifest, if it differs from the real digest. The registry serves
    /// the layer under this digest.
    pub declared_layer_digest: Option<String>,
    /// Media type of the config in the manifest.
    pub config_media_type: String,
    /// Annotation of the manifest, which changes the digest of the manifest only.
    pub annotation: Option<String>,
}

impl Artifact {
    /// Creates an image of a component, with its real media type and size in the manifest.
    pub fn wasm(bytes: impl Into<Bytes>) -> Artifact {
        Artifact {
            bytes: bytes.into(),
            layer_media_type: WASM_LAYER.to_owned(),
            declared_layer_bytes: None,
            declared_layer_digest: None,
            config_media_type: WASM_CONFIG.to_owned(),
            annotation: None,
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

    /// Changes the digest of the layer in the manifest to one that no content has.
    ///
    /// A host that does not verify the layer runs it; no host has it in its cache.
    pub fn with_false_layer_digest(self, algorithm: &str, salt: &str) -> Artifact {
        let digest = digest(salt.as_bytes());
        let hex = digest.trim_start_matches("sha256:");
        let digits = if algorithm == "sha512" { 2 } else { 1 };
        Artifact {
            declared_layer_digest: Some(format!("{algorithm}:{}", hex.repeat(digits))),
            ..self
        }
    }

    /// Changes the media type of the config.
    pub fn with_config_media_type(self, config_media_type: &str) -> Artifact {
        Artifact {
            config_media_type: config_media_type.to_owned(),
            ..self
        }
    }

    /// Changes the digests but not the behavior, so that the image is in no cache of the host.
    ///
    /// The manifest gets an annotation, WebAssembly a custom section, and JSON trailing white
    /// space; other content is unchanged.
    pub fn salted(self, salt: &str) -> Artifact {
        Artifact {
            bytes: salted(&self.bytes, salt),
            annotation: Some(salt.to_owned()),
            ..self
        }
    }

    /// Appends `count` bytes that depend on `salt` and are not part of the program.
    pub fn padded(self, count: usize, salt: &str) -> Artifact {
        let mut bytes = self.bytes.to_vec();
        bytes.extend(digest(salt.as_bytes()).bytes().cycle().take(count));
        Artifact {
            bytes: bytes.into(),
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

impl Image {
    pub fn of(artifact: Artifact) -> Image {
        let mut layer = Content::of(artifact.bytes);
        if let Some(digest) = artifact.declared_layer_digest {
            layer.digest = digest;
        }
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
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": artifact.config_media_type,
                "digest": config.digest,
                "size": config.bytes.len(),
            },
            "layers": [{
                "mediaType": artifact.layer_media_type,
                "digest": layer.digest,
                "size": layer_bytes,
            }],
        });
        if let (Some(annotation), Some(manifest)) = (artifact.annotation, manifest.as_object_mut())
        {
            let annotations = json!({ "berth.salt": annotation });
            manifest.insert("annotations".to_owned(), annotations);
        }
        let manifest = Content::of(Bytes::from(manifest.to_string()));
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
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return with_trailing_space(bytes, salt);
    }
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

/// Appends white space whose characters encode a hash of the salt.
fn with_trailing_space(json: &Bytes, salt: &str) -> Bytes {
    let hash = Sha256::digest(salt.as_bytes());
    let bits = hash
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1));
    let mut salted = json.to_vec();
    salted.extend(bits.map(|bit| if bit == 0 { b' ' } else { b'\n' }));
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

    #[test]
    fn salt_changes_the_digest_and_keeps_json_valid() {
        let json = Artifact::wasm("{\"a\":1}");
        let [a, b] = ["a", "b"].map(|salt| json.clone().salted(salt).bytes);
        assert_ne!(digest(&a), digest(&b));
        assert_eq!(a.trim_ascii(), json.bytes);
        serde_json::from_slice::<serde_json::Value>(&a).unwrap();
    }

    #[test]
    fn salt_changes_the_manifest_of_content_that_it_cannot_change() {
        let manifest = |salt| {
            Image::of(Artifact::wasm("text").salted(salt))
                .manifest
                .digest
        };
        assert_ne!(manifest("a"), manifest("b"));
    }

    #[test]
    fn false_digests_name_no_content() {
        let artifact = Artifact::wasm("abc");
        for (algorithm, digits) in [("sha256", 64), ("sha512", 128)] {
            let image = Image::of(artifact.clone().with_false_layer_digest(algorithm, "a"));
            assert_eq!(image.layer.bytes, "abc");
            let digest = image.layer.digest.strip_prefix(algorithm).unwrap();
            assert_eq!(digest.len(), digits + 1);
            let manifest: serde_json::Value =
                serde_json::from_slice(&image.manifest.bytes).unwrap();
            assert_eq!(manifest["layers"][0]["digest"], image.layer.digest);
            assert_eq!(manifest["layers"][0]["size"], 3);
        }
    }
}
