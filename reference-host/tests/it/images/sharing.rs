//! Concurrent pulls: which ones share requests, and that registries do not block each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_host::image::{Credentials, PullCause, PullPolicy, PullRequest, Store, StoreOptions};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::mock_registry::{Image, MockRegistry, MockResponse, ReceivedRequest};
use super::{options, pull, request, store};

fn image() -> Image {
    Image::new("one")
}

/// More permits than any of these tests sends requests.
const ENOUGH_PERMITS: usize = 100;

/// Serves [`image`]. The response to a path that contains `part` waits for a permit of the returned
/// semaphore.
async fn delayed(part: &'static str) -> (MockRegistry, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let required = permits.clone();
    let registry = MockRegistry::serve_async(move |request: ReceivedRequest| {
        let required = required.clone();
        async move {
            if request.path.contains(part) {
                required.acquire().await.unwrap().forget();
            }
            image().respond(&request)
        }
    })
    .await;
    (registry, permits)
}

#[tokio::test]
async fn concurrent_pulls_share_their_requests() {
    for part in ["manifests", "blobs"] {
        let (registry, permits) = delayed(part).await;
        let store = store();
        let requests: Vec<PullRequest> =
            vec![request(registry.image(":1"), PullPolicy::IfNotPresent); 8];
        let pulls = tokio::spawn({
            let store = store.clone();
            async move { join_all(requests.into_iter().map(|it| store.pull(it))).await }
        });
        registry.wait_for_requests(part, 1).await;
        permits.add_permits(ENOUGH_PERMITS);
        for artifact in pulls.await.unwrap() {
            assert_eq!(artifact.unwrap().bytes, "one");
        }
        assert_eq!(registry.count("blobs"), 1);
    }
}

#[tokio::test]
async fn pulls_with_different_credentials_share_nothing() {
    let registry = MockRegistry::of(&image()).await;
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
async fn pull_continues_after_caller_is_dropped() {
    for part in ["manifests", "blobs"] {
        let (registry, permits) = delayed(part).await;
        let store = store();
        let reference = registry.image(":1");
        let caller = tokio::spawn({
            let (store, reference) = (store.clone(), reference.clone());
            async move { pull(&store, reference, PullPolicy::IfNotPresent).await }
        });
        registry.wait_for_requests(part, 1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        permits.add_permits(ENOUGH_PERMITS);
        // NEVER sends no request, so only the first caller's pull can provide the image.
        let arrives = async {
            while pull(&store, &reference, PullPolicy::Never).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        tokio::time::timeout(limit, arrives).await.unwrap();
        assert_eq!(registry.count("blobs"), 1);
    }
}

#[tokio::test]
async fn always_resolves_again_during_download_of_an_older_pull() {
    let (registry, permits) = delayed("blobs").await;
    let store = store();
    let start = || {
        let (store, reference) = (store.clone(), registry.image(":1"));
        tokio::spawn(async move { pull(&store, reference, PullPolicy::Always).await })
    };
    let first = start();
    registry.wait_for_requests("blobs", 1).await;
    let second = start();
    registry.wait_for_requests("manifests", 2).await;
    permits.add_permits(ENOUGH_PERMITS);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    assert_eq!(registry.count("blobs"), 1);
}

#[tokio::test]
async fn hanging_registry_does_not_block_others() {
    let hanging = MockRegistry::serve(|_| MockResponse::Never).await;
    let good = MockRegistry::of(&image()).await;
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
    hanging.wait_for_requests("manifests", 2).await;
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
async fn failure_reaches_all_callers_and_is_not_cached() {
    let failing = Arc::new(AtomicBool::new(true));
    let failing_now = failing.clone();
    let registry = MockRegistry::serve(move |request| {
        if failing_now.load(Ordering::SeqCst) {
            super::mock_registry::status(500, serde_json::json!({}))
        } else {
            image().respond(request)
        }
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

#[tokio::test]
async fn pull_that_joins_another_has_its_own_deadline() {
    for part in ["manifests", "blobs"] {
        let (registry, permits) = delayed(part).await;
        let store = Store::new(StoreOptions {
            pull_timeout: Duration::from_secs(3),
            ..options()
        })
        .unwrap();
        let reference = registry.image(":1");
        let mut first = tokio::spawn({
            let (store, reference) = (store.clone(), reference.clone());
            async move { pull(&store, reference, PullPolicy::Always).await }
        });
        registry.wait_for_requests(part, 1).await;
        let two_thirds = tokio::time::timeout(Duration::from_secs(2), &mut first).await;
        assert!(two_thirds.is_err(), "the first pull still waits");
        let second = tokio::spawn({
            let (store, reference) = (store.clone(), reference.clone());
            async move { pull(&store, reference, PullPolicy::Always).await }
        });
        let error = first.await.unwrap().unwrap_err();
        assert!(
            matches!(error.cause(), PullCause::Timeout { .. }),
            "{error:?}"
        );
        permits.add_permits(ENOUGH_PERMITS);
        let artifact = second.await.unwrap().unwrap();
        assert_eq!(artifact.bytes, "one");
        assert_eq!(registry.count(part), 1, "the pulls share one request");
    }
}
