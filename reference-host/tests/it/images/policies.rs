//! Pull policies and the cache: which pulls contact the registry.

use std::fs;
use std::sync::{Arc, Mutex};

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};

use super::mock_registry::{Image, MockRegistry, ReceivedRequest};
use super::{options, pull, store};

#[tokio::test]
async fn always_contacts_registry_and_downloads_changed_layers() {
    let current = Arc::new(Mutex::new(Image::new("one")));
    let served = current.clone();
    let registry =
        MockRegistry::serve(move |request| served.lock().unwrap().respond(request)).await;
    let (store, reference) = (store(), registry.image(":1"));
    for _ in 0..3 {
        assert_eq!(
            pull(&store, &reference, PullPolicy::Always)
                .await
                .unwrap()
                .bytes,
            "one"
        );
    }
    assert_eq!(
        (registry.count("manifests"), registry.count("blobs")),
        (3, 1)
    );

    *current.lock().unwrap() = Image::new("two");
    let cached = pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(cached.bytes, "one", "only ALWAYS resolves a moved tag");
    assert_eq!(
        pull(&store, &reference, PullPolicy::Always)
            .await
            .unwrap()
            .bytes,
        "two"
    );
    let cached = pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(cached.bytes, "two", "ALWAYS updates the cache");
}

#[tokio::test]
async fn unset_policy_resolves_latest_at_each_start() {
    for (version, asked) in [("", 2), (":latest", 2), (":1", 1)] {
        let registry = MockRegistry::serve(|request| {
            let path = request.path.replace("manifests/latest", "manifests/1");
            Image::new("one").respond(&ReceivedRequest {
                path,
                ..request.clone()
            })
        })
        .await;
        let (store, reference) = (store(), registry.image(version));
        for _ in 0..2 {
            pull(&store, &reference, PullPolicy::Unset).await.unwrap();
        }
        assert_eq!(registry.count("manifests"), asked, "{version}");
        pull(&store, &reference, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(registry.count("manifests"), asked, "{version}");
    }
}

#[tokio::test]
async fn if_not_present_and_never_use_cached_image_without_a_request() {
    let image = Image::new("one");
    let registry = MockRegistry::of(&image).await;
    let (store, reference) = (store(), registry.image(":1"));
    pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    let by_digest = registry.image(&format!("@{}", image.manifest_digest()));
    let before = registry.requests().len();
    for reference in [&reference, &by_digest] {
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
            assert_eq!(pull(&store, reference, policy).await.unwrap().bytes, "one");
        }
    }
    assert_eq!(registry.requests().len(), before);
    drop(registry);
    pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    pull(&store, &reference, PullPolicy::Always)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn never_fails_without_a_request_if_image_is_missing() {
    let registry = MockRegistry::of(&Image::new("one")).await;
    let error = pull(&store(), registry.image(":1"), PullPolicy::Never)
        .await
        .unwrap_err();
    assert!(matches!(error.cause(), PullCause::NotCached));
    assert_eq!(registry.requests().len(), 0);
}

#[tokio::test]
async fn cache_outlives_store_and_replaces_damaged_layer() {
    let directory = tempfile::tempdir().unwrap();
    let image = Image::new("one");
    let registry = MockRegistry::of(&image).await;
    let reference = registry.image(":1");
    let cache_dir = Some(directory.path().to_owned());
    let open = || {
        Store::new(StoreOptions {
            cache_dir: cache_dir.clone(),
            ..options()
        })
        .unwrap()
    };
    pull(&open(), &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    pull(&open(), &reference, PullPolicy::Never).await.unwrap();
    assert_eq!(registry.count("blobs"), 1);

    let hex = image.layer_digest().replace("sha256:", "");
    let layer = directory.path().join("berth-images-v1/layers").join(hex);
    fs::write(&layer, "0ne").unwrap();
    let artifact = pull(&open(), &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(artifact.bytes, "one");
    assert_eq!(registry.count("blobs"), 2);
    assert_eq!(fs::read(&layer).unwrap(), b"one");
}

#[tokio::test]
async fn pulls_image_larger_than_the_cache() {
    let registry = MockRegistry::of(&Image::new("twelve bytes")).await;
    let small = Store::new(StoreOptions {
        cache_bytes_max: 4,
        ..options()
    })
    .unwrap();
    for _ in 0..2 {
        let artifact = pull(&small, registry.image(":1"), PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(artifact.bytes, "twelve bytes");
    }
    assert_eq!(registry.count("blobs"), 2);
}

#[tokio::test]
async fn temporary_cache_is_removed_with_the_store() {
    let registry = MockRegistry::of(&Image::new("one")).await;
    let store = store();
    pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    let directory = store.cache_dir().to_owned();
    assert!(directory.exists());
    drop(store);
    assert!(!directory.exists());
}

#[tokio::test]
async fn closed_store_removes_cache_while_in_use() {
    let store = store();
    let (clone, directory) = (store.clone(), store.cache_dir().to_owned());
    store.close();
    assert!(!directory.exists());
    let registry = MockRegistry::of(&Image::new("one")).await;
    let error = pull(&clone, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(matches!(error.cause(), PullCause::Cache(_)), "{error:?}");
}
