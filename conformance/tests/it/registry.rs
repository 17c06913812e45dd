//! The embedded registry with a plain HTTP client: correct by default, faulty on request.

use std::time::Duration;

use berth_conformance::testbed::registry::{
    Artifact, Credentials, CutEnd, Endpoint, PushedImage, Registry, RepositoryBehavior,
    RequiredAuth, WASM_LAYER, digest,
};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

/// Time limit for every expected event.
const LIMIT: Duration = Duration::from_secs(10);
/// Time for which an unexpected event must not occur.
const OBSERVATION_TIME: Duration = Duration::from_millis(300);

type Response = hyper::Response<Incoming>;

async fn send(authority: &str, request: Request<Empty<Bytes>>) -> Result<Response, String> {
    let stream = tokio::net::TcpStream::connect(authority)
        .await
        .map_err(|e| e.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender
        .send_request(request)
        .await
        .map_err(|e| e.to_string())
}

async fn try_send(authority: &str, method: &str, path: &str) -> Result<Response, String> {
    send(authority, request(method, path).body(Empty::new()).unwrap()).await
}

fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "registry")
}

async fn get(registry: &Registry, path: &str) -> Response {
    timeout(LIMIT, try_send(registry.authority(), "GET", path))
        .await
        .unwrap()
        .unwrap()
}

async fn content(response: Response) -> Result<Bytes, String> {
    let body = timeout(LIMIT, response.into_body().collect())
        .await
        .unwrap();
    body.map(|body| body.to_bytes()).map_err(|e| e.to_string())
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

const LAYER: &[u8] = b"\0asm, or something like it, of forty-two bytes";

async fn registry_with_image(behavior: RepositoryBehavior) -> (Registry, PushedImage) {
    let registry = Registry::start().await.unwrap();
    let pushed = registry.push("a/b", "1", Artifact::wasm(LAYER));
    registry.set_behavior("a/b", behavior);
    (registry, pushed)
}

fn layer_path(pushed: &PushedImage) -> String {
    format!("/v2/a/b/blobs/{}", pushed.layer_digest)
}

#[tokio::test]
async fn serves_image_by_tag_and_by_digest() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::Healthy).await;
    assert_eq!(pushed.reference, format!("{}/a/b:1", registry.authority()));
    assert_eq!(
        pushed.digest_reference,
        format!("{}/a/b@{}", registry.authority(), pushed.digest)
    );
    assert_eq!(get(&registry, "/v2/").await.status(), StatusCode::OK);
    for reference in ["1", &pushed.digest] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let head = try_send(registry.authority(), "HEAD", &path).await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(header(&head, "docker-content-digest"), pushed.digest);
        let length: usize = header(&head, "content-length").parse().unwrap();
        let response = get(&registry, &path).await;
        assert_eq!(
            header(&response, "content-type"),
            "application/vnd.oci.image.manifest.v1+json"
        );
        let manifest = content(response).await.unwrap();
        assert_eq!(manifest.len(), length);
        assert_eq!(digest(&manifest), pushed.digest);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["layers"][0]["mediaType"], WASM_LAYER);
        assert_eq!(
            manifest["config"]["mediaType"],
            "application/vnd.wasm.config.v0+json"
        );
        for described in [&manifest["config"], &manifest["layers"][0]] {
            let wanted = described["digest"].as_str().unwrap();
            let blob = get(&registry, &format!("/v2/a/b/blobs/{wanted}")).await;
            let blob = content(blob).await.unwrap();
            assert_eq!(digest(&blob), wanted);
            assert_eq!(blob.len() as u64, described["size"].as_u64().unwrap());
        }
    }
    for path in [
        "/v2/a/b/manifests/2",
        "/v2/none/manifests/1",
        "/v2/a/b/blobs/sha256:0",
        "/",
    ] {
        assert_eq!(
            get(&registry, path).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn tag_moves_and_digest_stays() {
    let (registry, first) = registry_with_image(RepositoryBehavior::Healthy).await;
    let digest_of_tag = async || {
        let response = get(&registry, "/v2/a/b/manifests/1").await;
        header(&response, "docker-content-digest").to_owned()
    };
    let second = registry.push("a/b", "1", Artifact::wasm("other"));
    assert_ne!(first.digest, second.digest);
    assert_eq!(digest_of_tag().await, second.digest);
    assert!(registry.move_tag("a/b", "1", &first.digest));
    assert_eq!(digest_of_tag().await, first.digest);
    assert!(!registry.move_tag("a/b", "1", "sha256:00"));
    assert!(!registry.move_tag("nowhere", "1", &first.digest));
    let path = format!("/v2/a/b/manifests/{}", second.digest);
    assert_eq!(get(&registry, &path).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn manifest_can_contradict_its_layer() {
    let registry = Registry::start().await.unwrap();
    let artifact = Artifact::wasm(LAYER)
        .with_layer_media_type("application/vnd.oci.image.layer.v1.tar")
        .with_declared_layer_bytes(1 << 40);
    registry.push("a/b", "1", artifact);
    let manifest = content(get(&registry, "/v2/a/b/manifests/1").await)
        .await
        .unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(layer["size"], 1_u64 << 40);
}

#[tokio::test]
async fn error_behaviors_return_their_status() {
    for (behavior, status) in [
        (RepositoryBehavior::NotFound, StatusCode::NOT_FOUND),
        (RepositoryBehavior::Unauthorized, StatusCode::UNAUTHORIZED),
        (
            RepositoryBehavior::ServerError,
            StatusCode::INTERNAL_SERVER_ERROR,
        ),
    ] {
        let (registry, pushed) = registry_with_image(behavior.clone()).await;
        for path in ["/v2/a/b/manifests/1".to_owned(), layer_path(&pushed)] {
            assert_eq!(get(&registry, &path).await.status(), status, "{behavior:?}");
        }
        // Other repositories are not affected.
        registry.push("c", "1", Artifact::wasm(LAYER));
        assert_eq!(
            get(&registry, "/v2/c/manifests/1").await.status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn hanging_behaviors_affect_only_their_requests() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::HangOnHead).await;
    let head = try_send(registry.authority(), "HEAD", "/v2/a/b/manifests/1");
    assert!(timeout(OBSERVATION_TIME, head).await.is_err());
    assert_eq!(
        get(&registry, "/v2/a/b/manifests/1").await.status(),
        StatusCode::OK
    );

    registry.set_behavior("a/b", RepositoryBehavior::HangOnManifest);
    for method in ["HEAD", "GET"] {
        let manifest = try_send(registry.authority(), method, "/v2/a/b/manifests/1");
        assert!(timeout(OBSERVATION_TIME, manifest).await.is_err());
    }
    assert_eq!(
        content(get(&registry, &layer_path(&pushed)).await)
            .await
            .unwrap(),
        LAYER
    );

    registry.set_behavior("a/b", RepositoryBehavior::HangMidBlob);
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&response, "content-length"), LAYER.len().to_string());
    let mut body = response.into_body();
    let half = timeout(LIMIT, body.frame())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(half.into_data().unwrap(), LAYER[..LAYER.len() / 2]);
    assert!(timeout(OBSERVATION_TIME, body.frame()).await.is_err());
}

#[tokio::test]
async fn closing_behaviors_close_the_connection() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::CloseConnection).await;
    let closed = timeout(
        LIMIT,
        try_send(registry.authority(), "GET", "/v2/a/b/manifests/1"),
    );
    closed.await.unwrap().unwrap_err();

    registry.set_behavior("a/b", RepositoryBehavior::TruncateBlob);
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&response, "content-length"), LAYER.len().to_string());
    content(response).await.unwrap_err();
}

#[tokio::test]
async fn slow_behavior_delays_and_throttles_complete_content() {
    let before_manifest = Duration::from_millis(200);
    let slow = RepositoryBehavior::Slow {
        before_manifest,
        blob_bytes_per_second: 100,
    };
    let (registry, pushed) = registry_with_image(slow).await;
    for method in ["HEAD", "GET"] {
        let started_at = Instant::now();
        let response = try_send(registry.authority(), method, "/v2/a/b/manifests/1")
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(started_at.elapsed() >= before_manifest);
    }
    let started_at = Instant::now();
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(content(response).await.unwrap(), LAYER);
    assert!(started_at.elapsed() >= Duration::from_millis(LAYER.len() as u64 * 10));
}

#[tokio::test]
async fn wrong_content_behaviors_serve_wrong_content() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::Healthy).await;
    let lie = registry.push(
        "a/b",
        "lie",
        Artifact::wasm(LAYER).with_false_layer_digest("sha256", "lie"),
    );
    let blob = content(get(&registry, &layer_path(&lie)).await)
        .await
        .unwrap();
    assert_eq!(blob, LAYER);
    assert_ne!(digest(&blob), lie.layer_digest);

    let served = lie.digest.clone();
    registry.set_behavior("a/b", RepositoryBehavior::WrongManifestForDigest { served });
    let path = format!("/v2/a/b/manifests/{}", pushed.digest);
    let response = get(&registry, &path).await;
    assert_eq!(header(&response, "docker-content-digest"), pushed.digest);
    assert_eq!(digest(&content(response).await.unwrap()), lie.digest);
    let manifest_by_tag = content(get(&registry, "/v2/a/b/manifests/1").await)
        .await
        .unwrap();
    assert_eq!(digest(&manifest_by_tag), pushed.digest);

    registry.set_behavior("a/b", RepositoryBehavior::TextInsteadOfJson);
    let text = content(get(&registry, "/v2/a/b/manifests/1").await)
        .await
        .unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap_err();

    registry.set_behavior("a/b", RepositoryBehavior::WrongManifestType);
    let response = get(&registry, "/v2/a/b/manifests/1").await;
    assert_eq!(header(&response, "content-type"), "text/plain");
    assert_eq!(digest(&content(response).await.unwrap()), pushed.digest);

    registry.set_behavior("a/b", RepositoryBehavior::ManifestTypeWithParameter);
    let response = get(&registry, "/v2/a/b/manifests/1").await;
    assert_eq!(
        header(&response, "content-type"),
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8"
    );
}

#[tokio::test]
async fn cut_layers_lack_their_last_bytes() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::Healthy).await;
    let part = &LAYER[..LAYER.len() - 5];
    for (end, length, is_complete) in [
        (CutEnd::Announced, LAYER.len().to_string(), false),
        (CutEnd::Chunked, String::new(), false),
        (CutEnd::Complete, part.len().to_string(), true),
    ] {
        let missing_bytes = 5;
        registry.set_behavior("a/b", RepositoryBehavior::CutBlob { missing_bytes, end });
        let response = get(&registry, &layer_path(&pushed)).await;
        assert_eq!(header(&response, "content-length"), length, "{end:?}");
        let received = content(response).await;
        assert_eq!(received.is_ok(), is_complete, "{end:?}");
        if let Ok(received) = received {
            assert_eq!(received, part);
        }
    }
}

#[tokio::test]
async fn counts_requests_and_sent_bytes() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::Healthy).await;
    assert_eq!(registry.sent_bytes("a/b"), 0);
    content(get(&registry, &layer_path(&pushed)).await)
        .await
        .unwrap();
    assert_eq!(registry.sent_bytes("a/b"), LAYER.len() as u64);
    get(&registry, "/v2/").await;
    assert_eq!(registry.request_count(), 2);
}

#[tokio::test]
async fn endless_behaviors_send_as_much_as_the_client_reads() {
    async fn read_at_least(response: Response, wanted: usize) {
        let mut body = response.into_body();
        let mut read = 0;
        while read < wanted {
            let frame = timeout(LIMIT, body.frame())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            read += frame.into_data().unwrap().len();
        }
    }
    let (registry, pushed) = registry_with_image(RepositoryBehavior::EndlessBlob).await;
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&response, "content-length"), "");
    read_at_least(response, 4 << 20).await;

    registry.set_behavior(
        "a/b",
        RepositoryBehavior::OversizeBlob {
            declared_bytes: 1 << 30,
        },
    );
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&response, "content-length"), (1 << 30).to_string());
    read_at_least(response, 4 << 20).await;

    registry.set_behavior("a/b", RepositoryBehavior::EndlessManifest);
    read_at_least(get(&registry, "/v2/a/b/manifests/1").await, 4 << 20).await;
}

#[tokio::test]
async fn redirected_layer_is_served_and_logged_by_the_redirect_target() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::RedirectBlob).await;
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    let location: hyper::Uri = header(&response, "location").parse().unwrap();
    let authority = location.authority().unwrap().as_str();
    assert_ne!(authority, registry.authority());
    let with_credentials = request("GET", location.path())
        .header("authorization", "Basic dXNlcjpwYTpzcw==")
        .body(Empty::new())
        .unwrap();
    let response = send(authority, with_credentials).await.unwrap();
    assert_eq!(content(response).await.unwrap(), LAYER);
    let log = registry.redirect_target_log("a/b");
    assert_eq!(log.len(), 1);
    assert_eq!(
        log[0].authorization.as_ref().unwrap().user.as_deref(),
        Some("user")
    );
}

#[tokio::test]
async fn layer_can_move_within_the_registry() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::RedirectBlobToPath).await;
    let response = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    let location = header(&response, "location").to_owned();
    assert!(location.starts_with('/'), "{location}");
    let moved = content(get(&registry, &location).await).await.unwrap();
    assert_eq!(moved, LAYER);
    assert_eq!(registry.redirect_target_log("a/b").len(), 1);
}

fn credentials() -> Credentials {
    Credentials {
        user: "user".to_owned(),
        password: "pa:ss".to_owned(),
    }
}

const RIGHT: &str = "Basic dXNlcjpwYTpzcw==";
const WRONG: &str = "Basic dXNlcjp3cm9uZw==";

async fn get_with(registry: &Registry, path: &str, authorization: &str) -> Response {
    let request = request("GET", path)
        .header("authorization", authorization)
        .body(Empty::new())
        .unwrap();
    send(registry.authority(), request).await.unwrap()
}

#[tokio::test]
async fn requires_basic_credentials() {
    let registry = Registry::start_private(RequiredAuth::Basic(credentials()))
        .await
        .unwrap();
    registry.push("a/b", "1", Artifact::wasm(LAYER));
    for path in ["/v2/", "/v2/a/b/manifests/1"] {
        let response = get(&registry, path).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(header(&response, "www-authenticate").starts_with("Basic "));
        let wrong = get_with(&registry, path, WRONG).await;
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            get_with(&registry, path, RIGHT).await.status(),
            StatusCode::OK
        );
    }
    let users: Vec<_> = registry
        .log("a/b")
        .into_iter()
        .map(|request| {
            request
                .authorization
                .and_then(|authorization| authorization.user)
        })
        .collect();
    assert_eq!(
        users,
        [None, Some("user".to_owned()), Some("user".to_owned())]
    );
    assert!(!format!("{:?}", registry).contains("pa:ss"));
    assert!(!format!("{:?}", registry.log("a/b")).contains("pa:ss"));
}

#[tokio::test]
async fn challenges_in_lower_case_and_for_blobs_only() {
    for (auth, manifest, challenge) in [
        (
            RequiredAuth::BasicInLowerCase(credentials()),
            StatusCode::UNAUTHORIZED,
            "basic ",
        ),
        (
            RequiredAuth::BasicForBlobs(credentials()),
            StatusCode::OK,
            "Basic ",
        ),
    ] {
        let registry = Registry::start_private(auth).await.unwrap();
        let pushed = registry.push("a/b", "1", Artifact::wasm(LAYER));
        let response = get(&registry, "/v2/a/b/manifests/1").await;
        assert_eq!(response.status(), manifest);
        let response = get(&registry, &layer_path(&pushed)).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(header(&response, "www-authenticate").starts_with(challenge));
        let response = get_with(&registry, &layer_path(&pushed), RIGHT).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn issues_bearer_tokens_for_one_repository() {
    let registry = Registry::start_private(RequiredAuth::Bearer(credentials()))
        .await
        .unwrap();
    registry.push("a/b", "1", Artifact::wasm(LAYER));
    registry.push("c", "1", Artifact::wasm(LAYER));
    let challenge = get(&registry, "/v2/").await;
    assert_eq!(challenge.status(), StatusCode::UNAUTHORIZED);
    let realm = format!("realm=\"http://{}/token\"", registry.authority());
    assert!(header(&challenge, "www-authenticate").contains(&realm));
    let path = "/token?service=berth&scope=repository%3Aa%2Fb%3Apull";
    assert_eq!(
        get(&registry, path).await.status(),
        StatusCode::UNAUTHORIZED
    );
    let wrong = get_with(&registry, path, WRONG).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let response = content(get_with(&registry, path, RIGHT).await)
        .await
        .unwrap();
    let response: serde_json::Value = serde_json::from_slice(&response).unwrap();
    let bearer = format!("Bearer {}", response["token"].as_str().unwrap());
    let right = get_with(&registry, "/v2/a/b/manifests/1", &bearer).await;
    assert_eq!(right.status(), StatusCode::OK);
    for (path, with) in [
        ("/v2/c/manifests/1", bearer.as_str()),
        ("/v2/a/b/manifests/1", RIGHT),
    ] {
        let response = get_with(&registry, path, with).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn logs_requests_and_waits_for_them() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::HangOnManifest).await;
    let before = std::time::Instant::now();
    let pending = try_send(registry.authority(), "GET", "/v2/a/b/manifests/1");
    let satisfied = registry.wait("a/b", LIMIT, |log| {
        log.iter().any(|request| request.is_manifest())
    });
    let log = tokio::select! {
        response = pending => panic!("unexpected response: {response:?}"),
        log = satisfied => log.unwrap(),
    };
    assert_eq!(log[0].endpoint, Endpoint::Manifest("1".to_owned()));
    assert_eq!(log[0].path, "/v2/a/b/manifests/1");
    assert!(log[0].at >= before);
    let never = registry
        .wait("a/b", OBSERVATION_TIME, |log| log.len() > 1)
        .await;
    assert_eq!(never.unwrap_err(), log);
    get(&registry, &layer_path(&pushed)).await;
    assert!(registry.log("a/b")[1].is_blob());
    get(&registry, "/v2/").await;
    assert_eq!(registry.log("")[0].endpoint, Endpoint::Ping);
    get(&registry, "/v2/unknown/manifests/1").await;
    assert_eq!(registry.log("unknown").len(), 1);
}

#[tokio::test]
async fn keeps_its_content_while_offline() {
    let (registry, pushed) = registry_with_image(RepositoryBehavior::HangMidBlob).await;
    let mut body = get(&registry, &layer_path(&pushed)).await.into_body();
    timeout(LIMIT, body.frame())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    registry.go_offline();
    // The open response is truncated, and new connections are refused.
    assert!(
        timeout(LIMIT, body.frame())
            .await
            .unwrap()
            .unwrap()
            .is_err()
    );
    timeout(LIMIT, async {
        while try_send(registry.authority(), "GET", "/v2/").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    registry.go_online().unwrap();
    registry.go_online().unwrap();
    assert_eq!(
        get(&registry, "/v2/a/b/manifests/1").await.status(),
        StatusCode::OK
    );
}
