//! The image store against a mock registry on loopback.

mod failures;
mod login;
mod mock_registry;
mod policies;
mod sharing;
mod tls;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use berth_host::image::{
    Artifact, Credentials, PullError, PullPolicy, PullRequest, Store, StoreOptions,
};

use self::mock_registry::{Image, MockRegistry, descriptor, manifest, ok};

/// Returns options for tests: plain HTTP, a short deadline, small limits.
fn options() -> StoreOptions {
    StoreOptions {
        allow_all_insecure: true,
        pull_timeout: Duration::from_secs(20),
        image_bytes_max: 1 << 20,
        ..StoreOptions::default()
    }
}

fn store() -> Store {
    Store::new(options()).unwrap()
}

fn request(reference: impl Into<String>, policy: PullPolicy) -> PullRequest {
    PullRequest {
        reference: reference.into(),
        policy,
        credentials: None,
    }
}

async fn pull(
    store: &Store,
    reference: impl Into<String>,
    policy: PullPolicy,
) -> Result<Arc<Artifact>, PullError> {
    store.pull(request(reference, policy)).await
}

async fn pull_as(
    store: &Store,
    reference: impl Into<String>,
    username: &str,
    password: &str,
) -> Result<Arc<Artifact>, PullError> {
    let credentials = Credentials {
        username: username.into(),
        password: password.into(),
    };
    let request = request(reference, PullPolicy::Always);
    store
        .pull(PullRequest {
            credentials: Some(credentials),
            ..request
        })
        .await
}

/// Returns the error with all its sources, as the host reports it.
fn chain(error: &PullError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn pulls_by_tag_and_by_digest() {
    let image = Image::new(&b"\0asm and so on"[..]);
    let registry = MockRegistry::of(&image).await;
    for version in [":1".to_owned(), format!("@{}", image.manifest_digest())] {
        let artifact = pull(&store(), registry.image(&version), PullPolicy::default())
            .await
            .unwrap();
        assert_eq!(artifact.bytes, image.layer);
        assert_eq!(artifact.digest.as_str(), image.layer_digest());
        assert_eq!(artifact.manifest_digest.as_str(), image.manifest_digest());
    }
}

#[tokio::test]
async fn index_resolves_to_wasm_image() {
    let image = Image::new(&b"\0asm"[..]);
    let mut entry = descriptor(
        "application/vnd.oci.image.manifest.v1+json",
        &image.manifest,
    );
    entry["platform"] = serde_json::json!({"os": "wasip2", "architecture": "wasm"});
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]});
    let served = image.clone();
    let registry = MockRegistry::serve(move |request| {
        if request.path.ends_with("/manifests/all") {
            ok(index.to_string())
        } else {
            served.respond(request)
        }
    })
    .await;
    let artifact = pull(&store(), registry.image(":all"), PullPolicy::Always)
        .await
        .unwrap();
    assert_eq!(artifact.bytes, image.layer);
    assert_eq!(artifact.manifest_digest.as_str(), image.manifest_digest());
}

#[tokio::test]
async fn pulls_layer_with_older_media_type() {
    let layer = "\0asm";
    let media_type = "application/vnd.module.wasm.content.layer.v1+wasm";
    let manifest = manifest(vec![descriptor(media_type, layer.as_bytes())]);
    let registry = MockRegistry::of(&Image {
        layer: layer.into(),
        manifest,
    })
    .await;
    assert!(
        pull(&store(), registry.image(":1"), PullPolicy::Always)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn uses_plain_http_for_configured_registries_only() {
    let registry = MockRegistry::of(&Image::new(&b"\0asm"[..])).await;
    let named = [registry.address.to_string()].into();
    let options = StoreOptions {
        allow_all_insecure: false,
        ..options()
    };
    let plain = StoreOptions {
        insecure_registries: named,
        ..options.clone()
    };
    let plain = Store::new(plain).unwrap();
    pull(&plain, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();

    let secure = Store::new(options).unwrap();
    let error = pull(&secure, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    let hint = format!(
        "start this host with --insecure-registry {}",
        registry.address
    );
    let no_ca = "cannot use https";
    let text = chain(&error);
    assert!(text.contains(&hint) || text.contains(no_ca), "{text}");
}

#[tokio::test]
async fn pulls_from_registry_with_ipv6_address() {
    let image = Image::new(&b"\0asm"[..]);
    let registry = MockRegistry::of_ipv6(&image).await;
    let port = registry.address.port();
    let store = Store::new(StoreOptions {
        allow_all_insecure: false,
        insecure_registries: [format!("[0::1]:{port}")].into(),
        ..options()
    })
    .unwrap();
    let digest = image.manifest_digest();
    for (host, version) in [
        ("[::1]", ":1".to_owned()),
        ("[::1]", format!("@{digest}")),
        ("[0:0:0:0:0:0:0:1]", ":1".to_owned()),
    ] {
        let reference = format!("{host}:{port}/acme/hello{version}");
        let artifact = pull(&store, reference, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(artifact.bytes, image.layer);
    }
    assert_eq!(registry.count("blobs"), 1, "all three are one image");
    for malformed in [
        "[::1/hello:1",
        "::1:5000/hello:1",
        "[fe80::1%eth0]:5000/hello:1",
    ] {
        let error = pull(&store, malformed, PullPolicy::Always)
            .await
            .unwrap_err();
        let text = chain(&error);
        assert!(
            text.contains(malformed) && text.contains("invalid image reference"),
            "{text}"
        );
    }
}

#[test]
fn rejects_unusable_cache_directory_at_creation() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache_dir = Some(file.path().to_owned());
    let error = Store::new(StoreOptions {
        cache_dir,
        ..options()
    })
    .err()
    .unwrap();
    assert!(
        error.to_string().contains("check --oci-cache-dir"),
        "{error}"
    );
}
