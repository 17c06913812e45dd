//! The image store against a real registry on loopback.

mod failures;
mod login;
mod policies;
mod registry;
mod sharing;
mod tls;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use berth_host::image::{
    Artifact, Credentials, PullError, PullPolicy, PullRequest, Store, StoreOptions,
};

use self::registry::{Image, Registry, descriptor, manifest, ok};

/// Options for tests: plain HTTP, a short deadline, small limits.
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

/// The whole chain of an error, as a host puts it into a reply.
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
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let image = Image::new(&b"\0asm and so on"[..]);
    let registry = Registry::of(&image).await;
    for version in [":1".to_owned(), format!("@{}", image.manifest_digest())] {
        let got = pull(&store(), registry.image(&version), PullPolicy::default())
            .await
            .unwrap();
        assert_eq!(got.bytes, image.layer);
        assert_eq!(got.digest.as_str(), image.layer_digest());
        assert_eq!(got.manifest_digest.as_str(), image.manifest_digest());
    }
}

#[tokio::test]
async fn an_index_leads_to_the_image_for_wasm() {
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
    let registry = Registry::serve(move |asked| match asked.path.ends_with("/manifests/all") {
        true => ok(index.to_string()),
        false => served.answer(asked),
    })
    .await;
    let got = pull(&store(), registry.image(":all"), PullPolicy::Always)
        .await
        .unwrap();
    assert_eq!(got.bytes, image.layer);
    assert_eq!(got.manifest_digest.as_str(), image.manifest_digest());
}

#[tokio::test]
async fn a_layer_of_the_older_type_is_pulled() {
    let layer = "\0asm";
    let media_type = "application/vnd.module.wasm.content.layer.v1+wasm";
    let manifest = manifest(vec![descriptor(media_type, layer.as_bytes())]);
    let registry = Registry::of(&Image {
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
async fn only_the_named_registries_are_reached_over_plain_http() {
    let registry = Registry::of(&Image::new(&b"\0asm"[..])).await;
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
    let no_ca = "this host cannot speak https";
    let text = chain(&error);
    assert!(text.contains(&hint) || text.contains(no_ca), "{text}");
}

#[test]
fn a_cache_folder_that_cannot_be_used_is_an_error_at_once() {
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
