//! Failing registries: each kind of failure has its own error, with the registry, the reason, and a
//! remedy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use bytes::Bytes;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;

use super::mock_registry::{
    Image, MockRegistry, MockResponse, ReceivedRequest, breaks_after, descriptor, endless,
    manifest, ok, respond_with, stalls_after, status,
};
use super::{chain, options, pull, store};

const LAYER: &[u8] = b"\0asm and all that follows";

fn image() -> Image {
    Image::new(LAYER)
}

/// Serves the valid image, except for paths that contain `part`, which `respond` handles.
fn except(part: &'static str, respond: Respond) -> impl Fn(&ReceivedRequest) -> MockResponse {
    move |request| {
        if request.path.contains(part) {
            respond(request)
        } else {
            image().respond(request)
        }
    }
}

type Respond = fn(&ReceivedRequest) -> MockResponse;

/// Name, path, response, variant of the cause, and a part of the error message.
type Case = (
    &'static str,
    &'static str,
    Respond,
    &'static str,
    &'static str,
);

const CASES: &[Case] = &[
    (
        "manifest 404",
        "manifests",
        |_| not_found("MANIFEST_UNKNOWN"),
        "NotFound",
        "check the name and the tag",
    ),
    (
        "manifest 401",
        "manifests",
        |_| status(401, json!({})),
        "Unauthorized",
        "set imagePullSecret",
    ),
    (
        "manifest 403",
        "manifests",
        |_| status(403, json!({})),
        "Denied",
        "denied access",
    ),
    (
        "manifest 500",
        "manifests",
        |_| status(500, json!({})),
        "Status",
        "returned status 500",
    ),
    (
        "manifest 429",
        "manifests",
        |_| status(429, json!({})),
        "Status",
        "try again later",
    ),
    (
        "manifest 204",
        "manifests",
        |_| respond_with(204, &[], ""),
        "Status",
        "returned status 204",
    ),
    (
        "manifest is HTML",
        "manifests",
        |_| ok("<html>hi</html>"),
        "Manifest",
        "cannot parse the manifest",
    ),
    (
        "manifest empty",
        "manifests",
        |_| ok(""),
        "Manifest",
        "cannot parse the manifest",
    ),
    (
        "manifest truncated",
        "manifests",
        |_| ok("{\"schemaVersion\": 2,"),
        "Manifest",
        "cannot parse the manifest",
    ),
    (
        "manifest v1",
        "manifests",
        |_| ok("{\"schemaVersion\": 1}"),
        "Manifest",
        "schemaVersion",
    ),
    (
        "manifest endless",
        "manifests",
        |_| endless(),
        "ResponseTooLarge",
        "fetching the manifest",
    ),
    (
        "manifest breaks",
        "manifests",
        |_| breaks_after("{".into(), 9),
        "Transport",
        "connection failed",
    ),
    (
        "manifest differs from announced digest",
        "manifests",
        |_| manifest_with_wrong_digest(),
        "DigestMismatch",
        "the manifest from",
    ),
    (
        "no wasm layer",
        "manifests",
        |_| ok(manifest_with_layers(&["text/x"])),
        "Manifest",
        "its layers: text/x",
    ),
    (
        "two wasm layers",
        "manifests",
        |_| {
            ok(manifest_with_layers(&[
                "application/wasm",
                "application/wasm",
            ]))
        },
        "Manifest",
        "2 Wasm layers",
    ),
    (
        "layer declares a gigabyte",
        "manifests",
        |_| ok(manifest_with_gigabyte_layer()),
        "TooLarge",
        "--image-size-limit-mib",
    ),
    (
        "redirect loop",
        "manifests",
        |request| redirect(&request.path),
        "Redirect",
        "too many redirects",
    ),
    (
        "redirect to ftp",
        "manifests",
        |_| redirect("ftp://a/b"),
        "Redirect",
        "not an HTTP URL",
    ),
    (
        "redirect without target",
        "manifests",
        |_| respond_with(302, &[], ""),
        "Redirect",
        "no valid target",
    ),
    (
        "layer 404",
        "blobs",
        |_| not_found("BLOB_UNKNOWN"),
        "NotFound",
        "BLOB_UNKNOWN: no",
    ),
    (
        "layer 500",
        "blobs",
        |_| status(500, json!({})),
        "Status",
        "downloading the layer",
    ),
    (
        "layer 500 endless",
        "blobs",
        |_| endless_500(),
        "Status",
        "returned status 500",
    ),
    (
        "layer differs",
        "blobs",
        |_| ok(vec![b'x'; LAYER.len()]),
        "DigestMismatch",
        "the layer from",
    ),
    (
        "layer too short",
        "blobs",
        |_| ok("oops"),
        "Truncated",
        "4 of 25 bytes",
    ),
    (
        "layer breaks",
        "blobs",
        |_| breaks_after(first_half_of_layer(), LAYER.len()),
        "Truncated",
        "12 of 25 bytes",
    ),
    (
        "layer endless",
        "blobs",
        |_| endless(),
        "Overlong",
        "more than the 25 bytes",
    ),
];

fn not_found(code: &str) -> MockResponse {
    status(404, json!({"errors": [{"code": code, "message": "no"}]}))
}

fn first_half_of_layer() -> Bytes {
    Bytes::from_static(LAYER).slice(..12)
}

fn manifest_with_layers(media_types: &[&str]) -> Bytes {
    manifest(media_types.iter().map(|it| descriptor(it, LAYER)).collect())
}

fn manifest_with_gigabyte_layer() -> Bytes {
    let mut layer = descriptor("application/wasm", LAYER);
    layer["size"] = json!(1_u64 << 30);
    manifest(vec![layer])
}

fn redirect(to: &str) -> MockResponse {
    respond_with(307, &[("location", to)], "")
}

fn manifest_with_wrong_digest() -> MockResponse {
    let announced = image().layer_digest();
    respond_with(
        200,
        &[("docker-content-digest", &announced)],
        image().manifest,
    )
}

fn endless_500() -> MockResponse {
    let MockResponse::With(mut response) = endless() else {
        unreachable!()
    };
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    MockResponse::With(response)
}

#[tokio::test]
async fn each_failure_has_its_own_error() {
    let cases = CASES
        .iter()
        .map(async |(name, part, respond, cause, words)| {
            let registry = MockRegistry::serve(except(part, *respond)).await;
            let error = pull(&store(), registry.image(":1"), PullPolicy::Always)
                .await
                .unwrap_err();
            let (text, debug) = (chain(&error), format!("{:?}", error.cause()));
            assert!(debug.starts_with(cause), "{name}: {debug}");
            assert!(text.contains(words), "{name}: {text}");
            assert!(text.contains(&registry.image(":1")), "{name}: {text}");
        });
    join_all(cases).await;
}

#[tokio::test]
async fn failed_pull_leaves_nothing_in_the_cache() {
    let cases = CASES.iter().map(async |(name, part, respond, ..)| {
        let (store, fail) = (store(), Arc::new(AtomicBool::new(true)));
        let failing = fail.clone();
        let bad = except(part, *respond);
        let registry = MockRegistry::serve(move |request| {
            if failing.load(Ordering::SeqCst) {
                bad(request)
            } else {
                image().respond(request)
            }
        })
        .await;
        let reference = registry.image(":1");
        pull(&store, &reference, PullPolicy::IfNotPresent)
            .await
            .unwrap_err();
        let never = pull(&store, &reference, PullPolicy::Never)
            .await
            .unwrap_err();
        assert!(matches!(never.cause(), PullCause::NotCached), "{name}");
        fail.store(false, Ordering::SeqCst);
        let artifact = pull(&store, &reference, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(artifact.bytes, LAYER, "{name}");
    });
    join_all(cases).await;
}

/// Serves the valid image, after `failures` responses of `respond` to each path that contains
/// `part`.
async fn failing_at_first(part: &'static str, failures: usize, respond: Respond) -> MockRegistry {
    let failed = AtomicUsize::new(0);
    MockRegistry::serve(move |request| {
        if request.path.contains(part) && failed.fetch_add(1, Ordering::SeqCst) < failures {
            respond(request)
        } else {
            image().respond(request)
        }
    })
    .await
}

#[tokio::test]
async fn repeats_requests_that_fail_for_a_moment() {
    let busy: Respond = |_| respond_with(429, &[("retry-after", "1")], "");
    let cases: [(&str, usize, Respond); 4] = [
        ("manifests", 3, |_| status(503, json!({}))),
        ("blobs", 2, |_| status(500, json!({}))),
        ("manifests", 1, busy),
        ("blobs", 1, busy),
    ];
    for (part, failures, respond) in cases {
        let registry = failing_at_first(part, failures, respond).await;
        let artifact = pull(&store(), registry.image(":1"), PullPolicy::Always)
            .await
            .unwrap();
        assert_eq!(artifact.bytes, LAYER);
        assert_eq!(registry.count(part), failures + 1);
    }
}

#[tokio::test]
async fn does_not_wait_beyond_the_deadline_for_a_busy_registry() {
    let registry = MockRegistry::serve(|_| respond_with(429, &[("retry-after", "3600")], "")).await;
    let begin = Instant::now();
    let error = pull(&store(), registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(chain(&error).contains("429"), "{}", chain(&error));
    assert!(
        begin.elapsed() < options().pull_timeout,
        "the deadline is not waited for"
    );
    assert_eq!(registry.count("manifests"), 1);
}

#[tokio::test]
async fn verifies_manifest_against_digest_reference() {
    let registry = MockRegistry::serve(|request| {
        if request.path.contains("manifests") {
            ok(image().manifest)
        } else {
            image().respond(request)
        }
    })
    .await;
    let wrong = registry.image(&format!("@{}", image().layer_digest()));
    let error = pull(&store(), wrong, PullPolicy::Always).await.unwrap_err();
    assert!(matches!(
        error.cause(),
        PullCause::DigestMismatch {
            content: "manifest",
            ..
        }
    ));
}

#[tokio::test]
async fn deadline_bounds_hanging_requests() {
    let cases: [(&str, Respond); 4] = [
        ("manifests", |_| MockResponse::Never),
        ("manifests", |_| stalls_after("{".into(), 9)),
        ("blobs", |_| MockResponse::Never),
        ("blobs", |_| {
            stalls_after(first_half_of_layer(), LAYER.len())
        }),
    ];
    for (part, respond) in cases {
        let registry = MockRegistry::serve(except(part, respond)).await;
        let short = StoreOptions {
            pull_timeout: Duration::from_millis(300),
            ..options()
        };
        let store = Store::new(short).unwrap();
        let pull = pull(&store, registry.image(":1"), PullPolicy::Always);
        let error = tokio::time::timeout(Duration::from_secs(20), pull)
            .await
            .unwrap()
            .unwrap_err();
        assert!(
            matches!(error.cause(), PullCause::Timeout { .. }),
            "{error:?}"
        );
        assert!(
            chain(&error).contains("timed out after 0.3 s"),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn deadline_bounds_hanging_login() {
    let registry = MockRegistry::serve(|request| match request.path.as_str() {
        "/token" => MockResponse::Never,
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", request.host);
            respond_with(401, &[("www-authenticate", &realm)], "")
        }
    })
    .await;
    let short = StoreOptions {
        pull_timeout: Duration::from_millis(300),
        ..options()
    };
    let store = Store::new(short).unwrap();
    let error = pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), PullCause::Timeout { .. }),
        "{error:?}"
    );
    assert_eq!(registry.count("/token"), 1);
}

#[tokio::test]
async fn reports_unreachable_registry() {
    let registry = MockRegistry::of(&image()).await;
    let reference = registry.image(":1");
    drop(registry);
    let error = pull(&store(), &reference, PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), PullCause::Connect { .. }),
        "{error:?}"
    );
    assert!(
        chain(&error).to_lowercase().contains("refused"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn rejects_invalid_reference_without_a_request() {
    for (reference, words) in [
        ("", "is empty"),
        ("127.0.0.1:1/UPPER:1", "must be in lower case"),
        ("http://127.0.0.1:1/a:1", "remove \"http://\""),
    ] {
        let error = pull(&store(), reference, PullPolicy::Always)
            .await
            .unwrap_err();
        assert!(matches!(error.cause(), PullCause::Reference(_)));
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
}
