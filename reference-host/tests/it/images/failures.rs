//! Registries that fail in every way: each is an error of its own, with what happened, where, and what to do.

use std::time::Duration;

use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::registry::{
    Asked, Image, Registry, Reply, breaks_after, descriptor, endless, manifest, ok, stalls_after,
    status, with,
};
use super::{chain, options, pull, store};

const LAYER: &[u8] = b"\0asm and all that follows";

fn image() -> Image {
    Image::new(LAYER)
}

/// The good image, with another answer for the paths that contain `part`.
fn except(part: &'static str, answer: Answer) -> impl Fn(&Asked) -> Reply {
    move |asked| match asked.path.contains(part) {
        true => answer(asked),
        false => image().answer(asked),
    }
}

type Answer = fn(&Asked) -> Reply;

/// What is served, how the cause is called, and what its message says.
type Case = (
    &'static str,
    &'static str,
    Answer,
    &'static str,
    &'static str,
);

const CASES: &[Case] = &[
    (
        "manifest 404",
        "manifests",
        |_| no("MANIFEST_UNKNOWN"),
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
        "denies access",
    ),
    (
        "manifest 500",
        "manifests",
        |_| status(500, json!({})),
        "Status",
        "answered 500",
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
        |_| with(204, &[], ""),
        "Status",
        "answered 204",
    ),
    (
        "manifest text",
        "manifests",
        |_| ok("<html>hi</html>"),
        "Manifest",
        "not a JSON manifest",
    ),
    (
        "manifest empty",
        "manifests",
        |_| ok(""),
        "Manifest",
        "not a JSON manifest",
    ),
    (
        "manifest half",
        "manifests",
        |_| ok("{\"schemaVersion\": 2,"),
        "Manifest",
        "not a JSON",
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
        "AnswerTooLarge",
        "asking for the manifest",
    ),
    (
        "manifest breaks",
        "manifests",
        |_| breaks_after("{".into(), 9),
        "Transport",
        "broke off",
    ),
    (
        "manifest lies",
        "manifests",
        |_| lying_manifest(),
        "DigestMismatch",
        "the manifest from",
    ),
    (
        "no wasm layer",
        "manifests",
        |_| ok(layers(&["text/x"])),
        "Manifest",
        "only text/x",
    ),
    (
        "two wasm layers",
        "manifests",
        |_| ok(layers(&["application/wasm", "application/wasm"])),
        "Manifest",
        "2 Wasm layers",
    ),
    (
        "declared gigabyte",
        "manifests",
        |_| ok(gigabyte()),
        "TooLarge",
        "--image-size-limit-mib",
    ),
    (
        "redirect loop",
        "manifests",
        |asked| redirect(&asked.path),
        "Redirect",
        "in circles",
    ),
    (
        "redirect to ftp",
        "manifests",
        |_| redirect("ftp://a/b"),
        "Redirect",
        "not HTTP",
    ),
    (
        "redirect nowhere",
        "manifests",
        |_| with(302, &[], ""),
        "Redirect",
        "no usable target",
    ),
    (
        "layer 404",
        "blobs",
        |_| no("BLOB_UNKNOWN"),
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
        "answered 500",
    ),
    (
        "layer differs",
        "blobs",
        |_| ok(vec![b'x'; LAYER.len()]),
        "DigestMismatch",
        "the layer from",
    ),
    (
        "layer text",
        "blobs",
        |_| ok("oops"),
        "Truncated",
        "4 of 25 bytes",
    ),
    (
        "layer breaks",
        "blobs",
        |_| breaks_after(half(), LAYER.len()),
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

fn no(code: &str) -> Reply {
    status(404, json!({"errors": [{"code": code, "message": "no"}]}))
}

fn half() -> Bytes {
    Bytes::from_static(LAYER).slice(..12)
}

fn layers(media_types: &[&str]) -> Bytes {
    manifest(media_types.iter().map(|it| descriptor(it, LAYER)).collect())
}

fn gigabyte() -> Bytes {
    let mut layer = descriptor("application/wasm", LAYER);
    layer["size"] = json!(1_u64 << 30);
    manifest(vec![layer])
}

fn redirect(to: &str) -> Reply {
    with(307, &[("location", to)], "")
}

fn lying_manifest() -> Reply {
    let announced = image().layer_digest();
    with(
        200,
        &[("docker-content-digest", &announced)],
        image().manifest,
    )
}

fn endless_500() -> Reply {
    let Reply::With(mut response) = endless() else {
        unreachable!()
    };
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    Reply::With(response)
}

#[tokio::test]
async fn each_failure_is_an_error_of_its_own() {
    for (name, part, answer, cause, words) in CASES {
        let registry = Registry::serve(except(part, *answer)).await;
        let error = pull(&store(), registry.image(":1"), PullPolicy::Always)
            .await
            .unwrap_err();
        let (text, debug) = (chain(&error), format!("{:?}", error.cause()));
        assert!(debug.starts_with(cause), "{name}: {debug}");
        assert!(text.contains(words), "{name}: {text}");
        assert!(text.contains(&registry.image(":1")), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_failed_pull_leaves_nothing_that_the_next_one_could_take() {
    for (name, part, answer, ..) in CASES {
        let (store, gate) = (
            store(),
            std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true)),
        );
        let failing = gate.clone();
        let bad = except(part, *answer);
        let registry =
            Registry::serve(
                move |asked| match failing.load(std::sync::atomic::Ordering::SeqCst) {
                    true => bad(asked),
                    false => image().answer(asked),
                },
            )
            .await;
        let reference = registry.image(":1");
        pull(&store, &reference, PullPolicy::IfNotPresent)
            .await
            .unwrap_err();
        let never = pull(&store, &reference, PullPolicy::Never)
            .await
            .unwrap_err();
        assert!(matches!(never.cause(), PullCause::NotCached), "{name}");
        gate.store(false, std::sync::atomic::Ordering::SeqCst);
        let got = pull(&store, &reference, PullPolicy::IfNotPresent)
            .await
            .unwrap();
        assert_eq!(got.bytes, LAYER, "{name}");
    }
}

#[tokio::test]
async fn a_digest_reference_is_checked_against_the_manifest() {
    let registry = Registry::serve(|asked| match asked.path.contains("manifests") {
        true => ok(image().manifest),
        false => image().answer(asked),
    })
    .await;
    let wrong = registry.image(&format!("@{}", image().layer_digest()));
    let error = pull(&store(), wrong, PullPolicy::Always).await.unwrap_err();
    assert!(matches!(
        error.cause(),
        PullCause::DigestMismatch {
            what: "manifest",
            ..
        }
    ));
}

#[tokio::test]
async fn nothing_that_hangs_outlasts_the_deadline() {
    let cases: [(&str, Answer); 4] = [
        ("manifests", |_| Reply::Never),
        ("manifests", |_| stalls_after("{".into(), 9)),
        ("blobs", |_| Reply::Never),
        ("blobs", |_| stalls_after(half(), LAYER.len())),
    ];
    for (part, answer) in cases {
        let registry = Registry::serve(except(part, answer)).await;
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
            chain(&error).contains("did not finish within 0.3 s"),
            "{}",
            chain(&error)
        );
    }
}

#[tokio::test]
async fn a_login_that_hangs_is_within_the_deadline_too() {
    let registry = Registry::serve(|asked| match asked.path.as_str() {
        "/token" => Reply::Never,
        _ => {
            let realm = format!("Bearer realm=\"http://{}/token\"", asked.host);
            with(401, &[("www-authenticate", &realm)], "")
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
async fn a_registry_that_is_not_there_is_a_connection_refused() {
    let registry = Registry::of(&image()).await;
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
async fn a_bad_reference_contacts_nobody() {
    for (reference, words) in [
        ("", "is empty"),
        ("127.0.0.1:1/UPPER:1", "must be in lower case"),
        ("http://127.0.0.1:1/a:1", "leave out \"http://\""),
    ] {
        let error = pull(&store(), reference, PullPolicy::Always)
            .await
            .unwrap_err();
        assert!(matches!(error.cause(), PullCause::Reference(_)));
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
}
