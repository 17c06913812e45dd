//! Pull policies and the cache: when the registry is asked, and when it is not.

use std::fs;
use std::sync::{Arc, Mutex};

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};

use super::registry::{Image, Registry};
use super::{options, pull, store};

#[tokio::test]
async fn always_asks_each_time_and_downloads_what_is_new() {
    let current = Arc::new(Mutex::new(Image::new("one")));
    let served = current.clone();
    let registry = Registry::serve(move |asked| served.lock().unwrap().answer(asked)).await;
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
    let kept = pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(
        kept.bytes, "one",
        "a moved tag is not looked at without ALWAYS"
    );
    assert_eq!(
        pull(&store, &reference, PullPolicy::Always)
            .await
            .unwrap()
            .bytes,
        "two"
    );
    let kept = pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(
        kept.bytes, "two",
        "what ALWAYS brought is what the host has"
    );
}

#[tokio::test]
async fn if_not_present_and_never_ask_nobody_for_what_is_there() {
    let image = Image::new("one");
    let registry = Registry::of(&image).await;
    let (store, reference) = (store(), registry.image(":1"));
    pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    let by_digest = registry.image(&format!("@{}", image.manifest_digest()));
    let before = registry.asked().len();
    for reference in [&reference, &by_digest] {
        for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
            assert_eq!(pull(&store, reference, policy).await.unwrap().bytes, "one");
        }
    }
    assert_eq!(registry.asked().len(), before);
    drop(registry);
    pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    pull(&store, &reference, PullPolicy::Always)
        .await
        .unwrap_err();
}

#[tokio::test]
async fn never_asks_nobody_for_what_is_not_there() {
    let registry = Registry::of(&Image::new("one")).await;
    let error = pull(&store(), registry.image(":1"), PullPolicy::Never)
        .await
        .unwrap_err();
    assert!(matches!(error.cause(), PullCause::NotCached));
    assert_eq!(registry.asked().len(), 0);
}

#[tokio::test]
async fn the_cache_outlives_the_store_and_repairs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new("one");
    let registry = Registry::of(&image).await;
    let reference = registry.image(":1");
    let cache_dir = Some(folder.path().to_owned());
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
    let layer = folder.path().join("berth-images-v1/layers").join(hex);
    fs::write(&layer, "0ne").unwrap();
    let got = pull(&open(), &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
    assert_eq!(got.bytes, "one");
    assert_eq!(registry.count("blobs"), 2);
    assert_eq!(fs::read(&layer).unwrap(), b"one");
}

#[tokio::test]
async fn an_image_larger_than_the_cache_still_runs() {
    let registry = Registry::of(&Image::new("twelve bytes")).await;
    let small = Store::new(StoreOptions {
        cache_bytes_max: 4,
        ..options()
    })
    .unwrap();
    for _ in 0..2 {
        let got = pull(&small, registry.image(":1"), PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(got.bytes, "twelve bytes");
    }
    assert_eq!(registry.count("blobs"), 2);
}

#[tokio::test]
async fn a_temporary_cache_goes_with_the_store() {
    let registry = Registry::of(&Image::new("one")).await;
    let store = store();
    pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    let folder = store.cache_dir().to_owned();
    assert!(folder.exists());
    drop(store);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_closed_store_leaves_nothing_behind_even_while_it_is_in_use() {
    let store = store();
    let (clone, folder) = (store.clone(), store.cache_dir().to_owned());
    store.close();
    assert!(!folder.exists());
    let registry = Registry::of(&Image::new("one")).await;
    let error = pull(&clone, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(matches!(error.cause(), PullCause::Cache(_)), "{error:?}");
}
