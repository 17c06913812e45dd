//! Pulls that overlap: what they share, what they do not, and that nobody waits for a stranger.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_host::image::{Credentials, PullPolicy, PullRequest, Store, StoreOptions};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::registry::{Asked, Image, Registry, Reply};
use super::{options, pull, request, store};

fn image() -> Image {
    Image::new("one")
}

/// Serves [`image`], but holds the answers to paths with `part` until `gate` has a permit for each.
async fn gated(part: &'static str) -> (Registry, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let registry = Registry::serve_async(move |asked: Asked| {
        let held = held.clone();
        async move {
            if asked.path.contains(part) {
                held.acquire().await.unwrap().forget();
            }
            image().answer(&asked)
        }
    })
    .await;
    (registry, gate)
}

#[tokio::test]
async fn pulls_that_overlap_share_their_requests() {
    for part in ["manifests", "blobs"] {
        let (registry, gate) = gated(part).await;
        let store = store();
        let requests: Vec<PullRequest> =
            vec![request(registry.image(":1"), PullPolicy::IfNotPresent); 8];
        let pulls = tokio::spawn({
            let store = store.clone();
            async move { join_all(requests.into_iter().map(|it| store.pull(it))).await }
        });
        registry.was_asked(part, 1).await;
        gate.add_permits(100);
        for got in pulls.await.unwrap() {
            assert_eq!(got.unwrap().bytes, "one");
        }
        assert_eq!(registry.count("blobs"), 1);
    }
}

#[tokio::test]
async fn other_credentials_are_another_pull() {
    let registry = Registry::of(&image()).await;
    let (store, mut pulls) = (store(), Vec::new());
    for username in ["ann", "bob"] {
        let credentials = Some(Credentials {
            username: username.into(),
            password: "p".into(),
        });
        let request = request(registry.image(":1"), PullPolicy::Always);
        pulls.push(store.pull(PullRequest {
            credentials,
            ..request
        }));
    }
    assert!(join_all(pulls).await.iter().all(Result::is_ok));
    assert_eq!(registry.count("manifests"), 2);
}

#[tokio::test]
async fn a_pull_outlives_the_caller_who_asked_for_it() {
    for part in ["manifests", "blobs"] {
        let (registry, gate) = gated(part).await;
        let store = store();
        let reference = registry.image(":1");
        let caller = tokio::spawn({
            let (store, reference) = (store.clone(), reference.clone());
            async move { pull(&store, reference, PullPolicy::IfNotPresent).await }
        });
        registry.was_asked(part, 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.add_permits(100);
        // NEVER asks nobody, so that only the pull of the caller who is gone can have brought it.
        let arrives = async {
            while pull(&store, &reference, PullPolicy::Never).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let patience = std::time::Duration::from_secs(20);
        tokio::time::timeout(patience, arrives).await.unwrap();
        assert_eq!(registry.count("blobs"), 1);
    }
}

#[tokio::test]
async fn always_asks_anew_while_an_older_pull_still_downloads() {
    let (registry, gate) = gated("blobs").await;
    let store = store();
    let start = || {
        let (store, reference) = (store.clone(), registry.image(":1"));
        tokio::spawn(async move { pull(&store, reference, PullPolicy::Always).await })
    };
    let first = start();
    registry.was_asked("blobs", 1).await;
    let second = start();
    registry.was_asked("manifests", 2).await;
    gate.add_permits(100);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(registry.count("blobs"), 1);
}

#[tokio::test]
async fn a_registry_that_hangs_does_not_hold_up_the_others() {
    let hanging = Registry::serve(|_| Reply::Never).await;
    let good = Registry::of(&image()).await;
    let store = Store::new(StoreOptions {
        concurrent_pulls_max: 4,
        ..options()
    })
    .unwrap();
    let stuck: Vec<_> = (0..16)
        .map(|n| {
            let (store, reference) = (store.clone(), hanging.image(&format!(":{n}")));
            tokio::spawn(async move { pull(&store, reference, PullPolicy::Always).await })
        })
        .collect();
    hanging.was_asked("manifests", 2).await;
    pull(&store, good.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    assert_eq!(
        hanging.count("manifests"),
        2,
        "one registry gets half of the slots"
    );
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_shared_failure_reaches_everyone_and_is_not_remembered() {
    let failing = Arc::new(AtomicBool::new(true));
    let fails = failing.clone();
    let registry = Registry::serve(move |asked| match fails.load(Ordering::SeqCst) {
        true => super::registry::status(500, serde_json::json!({})),
        false => image().answer(asked),
    })
    .await;
    let (store, reference) = (store(), registry.image(":1"));
    let pulls = (0..4).map(|_| pull(&store, &reference, PullPolicy::IfNotPresent));
    assert!(join_all(pulls).await.iter().all(Result::is_err));
    failing.store(false, Ordering::SeqCst);
    pull(&store, &reference, PullPolicy::IfNotPresent)
        .await
        .unwrap();
}
