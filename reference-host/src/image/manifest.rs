//! The manifest of an image, and its one Wasm layer.

use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, ImageIndexEntry,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageIndex,
    OciImageManifest,
};
use serde::de::DeserializeOwned;

use super::digest::{Digest, DigestError};

/// Media types that the host accepts from a registry.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Media types of a Wasm layer: the current one, and the one of older tools.
const WASM_LAYERS: [&str; 2] = [
    "application/wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

/// A parsed manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    /// The image itself.
    Image(Layer),
    /// An index of several images; the digest is that of the matching image.
    Index(Digest),
}

/// The Wasm layer of an image, as its manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Reason why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The body is not JSON, or does not have the structure of a manifest.
    #[error("cannot parse the manifest as JSON")]
    Json(#[source] serde_json::Error),
    /// The schema version is missing or is not 2.
    #[error("the schemaVersion is not 2")]
    SchemaVersion,
    /// The media type is neither an image nor an index.
    #[error("media type {0:?} is neither an image manifest nor an index")]
    MediaType(String),
    /// The digest of a descriptor is invalid.
    #[error("invalid digest in the manifest")]
    Digest(#[source] DigestError),
    /// The size of the layer is negative.
    #[error("the size of the layer is negative")]
    Size,
    /// The image has no Wasm layer.
    #[error("the image has no application/wasm layer (its layers: {0})")]
    NoWasm(String),
    /// The image has several Wasm layers, so the one to run is ambiguous.
    #[error("the image has {0} Wasm layers; push the component as an image with exactly one")]
    SeveralWasm(usize),
    /// The index has no entry for Wasm.
    #[error("none of the {0} images in the index is for Wasm or this platform")]
    NoPlatform(usize),
}

/// Parses the body of a manifest response.
pub(super) fn read(body: &[u8]) -> Result<Manifest, ManifestError> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope {
        #[serde(default)]
        schema_version: u64,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let envelope: Envelope = json(body)?;
    if envelope.schema_version != 2 {
        return Err(ManifestError::SchemaVersion);
    }
    let index = match envelope.media_type.as_deref() {
        None => envelope.manifests.is_some(),
        Some(OCI_IMAGE_MEDIA_TYPE | IMAGE_MANIFEST_MEDIA_TYPE) => false,
        Some(OCI_IMAGE_INDEX_MEDIA_TYPE | IMAGE_MANIFEST_LIST_MEDIA_TYPE) => true,
        Some(other) => return Err(ManifestError::MediaType(shorten(other))),
    };
    if index {
        let index: OciImageIndex = json(body)?;
        return choose(&index.manifests).map(Manifest::Index);
    }
    let image: OciImageManifest = json(body)?;
    wasm_layer(&image.layers).map(Manifest::Image)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ManifestError> {
    serde_json::from_slice(body).map_err(ManifestError::Json)
}

/// Returns the Wasm layer. Other layers (documentation, a bill of materials) are ignored.
fn wasm_layer(layers: &[OciDescriptor]) -> Result<Layer, ManifestError> {
    let is_wasm = |layer: &&OciDescriptor| WASM_LAYERS.contains(&layer.media_type.as_str());
    let mut wasm = layers.iter().filter(is_wasm);
    let Some(layer) = wasm.next() else {
        return Err(ManifestError::NoWasm(list(layers)));
    };
    match wasm.count() {
        0 => Ok(Layer {
            digest: layer.digest.parse().map_err(ManifestError::Digest)?,
            bytes: u64::try_from(layer.size).map_err(|_| ManifestError::Size)?,
        }),
        more => Err(ManifestError::SeveralWasm(more + 1)),
    }
}

/// Chooses the entry for Wasm, else the one for this platform (like `wash host`), else the only
/// one.
fn choose(entries: &[ImageIndexEntry]) -> Result<Digest, ManifestError> {
    let of = |wanted: fn(&str, &str) -> bool| {
        entries.iter().find(|entry| {
            let platform = entry.platform.as_ref();
            platform.is_some_and(|it| wanted(&it.architecture.to_string(), &it.os.to_string()))
        })
    };
    let only = || {
        entries
            .first()
            .filter(|entry| entries.len() == 1 && entry.platform.is_none())
    };
    let entry = of(|architecture, _| architecture == "wasm")
        .or_else(|| of(is_this_platform))
        .or_else(only)
        .ok_or(ManifestError::NoPlatform(entries.len()))?;
    entry.digest.parse().map_err(ManifestError::Digest)
}

fn is_this_platform(architecture: &str, os: &str) -> bool {
    let this_architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    architecture == this_architecture && os == std::env::consts::OS
}

/// Lists the media types of `layers` for a message.
fn list(layers: &[OciDescriptor]) -> String {
    const SHOWN_MAX: usize = 3;
    if layers.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = layers
        .iter()
        .take(SHOWN_MAX)
        .map(|layer| shorten(&layer.media_type))
        .collect();
    let more = layers.len().saturating_sub(SHOWN_MAX);
    let tail = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &tail
}

/// Shortens a media type of a foreign document for a message.
fn shorten(media_type: &str) -> String {
    media_type
        .chars()
        .filter(|c| c.is_ascii_graphic())
        .take(80)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(media_type: &str, size: i64) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": Digest::of(b"x").to_string(), "size": size})
    }

    fn image(layers: Vec<serde_json::Value>) -> Vec<u8> {
        let config = layer("application/vnd.wasm.config.v0+json", 2);
        json!({"schemaVersion": 2, "config": config, "layers": layers})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn finds_the_wasm_layer_under_both_media_types() {
        for media_type in WASM_LAYERS {
            let body = image(vec![layer("text/markdown", 1), layer(media_type, 7)]);
            let expected = Layer {
                digest: Digest::of(b"x"),
                bytes: 7,
            };
            assert_eq!(read(&body).unwrap(), Manifest::Image(expected));
        }
    }

    #[test]
    fn rejects_unusable_manifests_with_reason() {
        let wasm = || layer("application/wasm", 1);
        let bad_digest =
            json!({"mediaType": "application/wasm", "digest": "sha256:../../x", "size": 1});
        for (body, expected) in [
            (b"<html>".to_vec(), "cannot parse the manifest as JSON"),
            (b"[]".to_vec(), "cannot parse the manifest as JSON"),
            (b"".to_vec(), "cannot parse the manifest as JSON"),
            (b"{}".to_vec(), "the schemaVersion is not 2"),
            (
                json!({"schemaVersion": 2, "mediaType": "text/x"})
                    .to_string()
                    .into_bytes(),
                "media type \"text/x\" is neither an image manifest nor an index",
            ),
            (
                image(vec![]),
                "the image has no application/wasm layer (its layers: none)",
            ),
            (
                image(vec![layer("application/vnd.oci.image.layer.v1.tar", 1)]),
                "the image has no application/wasm layer \
                 (its layers: application/vnd.oci.image.layer.v1.tar)",
            ),
            (
                image(vec![wasm(), wasm()]),
                "the image has 2 Wasm layers; push the component as an image with exactly one",
            ),
            (
                image(vec![layer("application/wasm", -1)]),
                "the size of the layer is negative",
            ),
            (image(vec![bad_digest]), "invalid digest in the manifest"),
        ] {
            let error = read(&body).unwrap_err();
            assert_eq!(
                error.to_string(),
                expected,
                "{}",
                String::from_utf8_lossy(&body)
            );
        }
    }

    fn index(platforms: &[Option<(&str, &str)>]) -> Vec<u8> {
        let entry = |(n, platform): (usize, &Option<(&str, &str)>)| {
            let digest = Digest::of(&[n as u8]).to_string();
            let mut entry = json!({"mediaType": OCI_IMAGE_MEDIA_TYPE, "digest": digest, "size": 1});
            if let Some((os, architecture)) = platform {
                entry["platform"] = json!({"os": os, "architecture": architecture});
            }
            entry
        };
        let entries: Vec<_> = platforms.iter().enumerate().map(entry).collect();
        json!({"schemaVersion": 2, "mediaType": OCI_IMAGE_INDEX_MEDIA_TYPE, "manifests": entries})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn resolves_an_index_to_wasm_then_this_platform_then_the_only_entry() {
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let here = Some((std::env::consts::OS, architecture));
        for (platforms, expected) in [
            (vec![here, Some(("wasip2", "wasm"))], Some(1)),
            (vec![Some(("windows", "s390x")), here], Some(1)),
            (vec![None], Some(0)),
            (vec![None, None], None),
            (vec![Some(("windows", "s390x"))], None),
            (vec![], None),
        ] {
            let found = read(&index(&platforms)).ok();
            let expected = expected.map(|n: u8| Manifest::Index(Digest::of(&[n])));
            assert_eq!(found, expected, "{platforms:?}");
        }
    }
}
