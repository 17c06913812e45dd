//! The embedded registry, asked by a bare HTTP client: truthful by default, and faulty on demand.

use std::time::Duration;

use berth_conformance::testbed::registry::{
    Artifact, Behaviour, Credentials, Demand, PendingRequest, Pushed, Registry, WASM_LAYER, digest,
};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};

/// What must come comes within this.
const SOON: Duration = Duration::from_secs(10);
/// What must not come is awaited this long.
const SILENCE: Duration = Duration::from_millis(300);

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

async fn ask(authority: &str, method: &str, path: &str) -> Result<Response, String> {
    send(authority, request(method, path).body(Empty::new()).unwrap()).await
}

fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "registry")
}

async fn get(registry: &Registry, path: &str) -> Response {
    timeout(SOON, ask(registry.authority(), "GET", path))
        .await
        .unwrap()
        .unwrap()
}

async fn content(answer: Response) -> Result<Bytes, String> {
    let body = timeout(SOON, answer.into_body().collect()).await.unwrap();
    body.map(|body| body.to_bytes()).map_err(|e| e.to_string())
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

const LAYER: &[u8] = b"\0asm, or something like it, of forty-two bytes";

async fn shelved(behaviour: Behaviour) -> (Registry, Pushed) {
    let registry = Registry::start().await.unwrap();
    let pushed = registry.push("a/b", "1", Artifact::wasm(LAYER));
    registry.behave("a/b", behaviour);
    (registry, pushed)
}

fn layer_path(pushed: &Pushed) -> String {
    format!("/v2/a/b/blobs/{}", pushed.layer_digest)
}

#[tokio::test]
async fn an_image_can_be_pulled_by_tag_and_by_digest() {
    let (registry, pushed) = shelved(Behaviour::Healthy).await;
    assert_eq!(pushed.reference, format!("{}/a/b:1", registry.authority()));
    assert_eq!(
        pushed.digest_reference,
        format!("{}/a/b@{}", registry.authority(), pushed.digest)
    );
    assert_eq!(get(&registry, "/v2/").await.status(), StatusCode::OK);
    for reference in ["1", &pushed.digest] {
        let path = format!("/v2/a/b/manifests/{reference}");
        let head = ask(registry.authority(), "HEAD", &path).await.unwrap();
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(header(&head, "docker-content-digest"), pushed.digest);
        let length: usize = header(&head, "content-length").parse().unwrap();
        let answer = get(&registry, &path).await;
        assert_eq!(
            header(&answer, "content-type"),
            "application/vnd.oci.image.manifest.v1+json"
        );
        let manifest = content(answer).await.unwrap();
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
async fn a_tag_moves_and_a_digest_stays() {
    let (registry, first) = shelved(Behaviour::Healthy).await;
    let digest_of_tag = async || {
        let answer = get(&registry, "/v2/a/b/manifests/1").await;
        header(&answer, "docker-content-digest").to_owned()
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
async fn descriptions_can_differ_from_what_is_described() {
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
async fn refusals_have_their_status() {
    for (behaviour, status) in [
        (Behaviour::NotFound, StatusCode::NOT_FOUND),
        (Behaviour::Unauthorised, StatusCode::UNAUTHORIZED),
        (Behaviour::ServerError, StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let (registry, pushed) = shelved(behaviour.clone()).await;
        for path in ["/v2/a/b/manifests/1".to_owned(), layer_path(&pushed)] {
            assert_eq!(
                get(&registry, &path).await.status(),
                status,
                "{behaviour:?}"
            );
        }
        // Other repositories know nothing of it.
        registry.push("c", "1", Artifact::wasm(LAYER));
        assert_eq!(
            get(&registry, "/v2/c/manifests/1").await.status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn what_hangs_hangs_and_the_rest_is_served() {
    let (registry, pushed) = shelved(Behaviour::HangOnHead).await;
    let head = ask(registry.authority(), "HEAD", "/v2/a/b/manifests/1");
    assert!(timeout(SILENCE, head).await.is_err());
    assert_eq!(
        get(&registry, "/v2/a/b/manifests/1").await.status(),
        StatusCode::OK
    );

    registry.behave("a/b", Behaviour::HangOnManifest);
    for method in ["HEAD", "GET"] {
        let manifest = ask(registry.authority(), method, "/v2/a/b/manifests/1");
        assert!(timeout(SILENCE, manifest).await.is_err());
    }
    assert_eq!(
        content(get(&registry, &layer_path(&pushed)).await)
            .await
            .unwrap(),
        LAYER
    );

    registry.behave("a/b", Behaviour::HangMidBlob);
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&answer, "content-length"), LAYER.len().to_string());
    let mut body = answer.into_body();
    let half = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(half.into_data().unwrap(), LAYER[..LAYER.len() / 2]);
    assert!(timeout(SILENCE, body.frame()).await.is_err());
}

#[tokio::test]
async fn connections_break_where_they_should() {
    let (registry, pushed) = shelved(Behaviour::Gone).await;
    let gone = timeout(
        SOON,
        ask(registry.authority(), "GET", "/v2/a/b/manifests/1"),
    );
    gone.await.unwrap().unwrap_err();

    registry.behave("a/b", Behaviour::TruncateBlob);
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&answer, "content-length"), LAYER.len().to_string());
    content(answer).await.unwrap_err();
}

#[tokio::test]
async fn slow_is_late_and_paced_and_complete() {
    let before_manifest = Duration::from_millis(200);
    let slow = Behaviour::Slow {
        before_manifest,
        blob_bytes_per_second: 100,
    };
    let (registry, pushed) = shelved(slow).await;
    for method in ["HEAD", "GET"] {
        let begun = Instant::now();
        let answer = ask(registry.authority(), method, "/v2/a/b/manifests/1")
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(begun.elapsed() >= before_manifest);
    }
    let begun = Instant::now();
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(content(answer).await.unwrap(), LAYER);
    assert!(begun.elapsed() >= Duration::from_millis(LAYER.len() as u64 * 10));
}

#[tokio::test]
async fn lies_are_told_on_demand() {
    let (registry, pushed) = shelved(Behaviour::WrongBlob).await;
    let blob = content(get(&registry, &layer_path(&pushed)).await)
        .await
        .unwrap();
    assert_eq!(blob.len(), LAYER.len());
    assert_ne!(digest(&blob), pushed.layer_digest);

    registry.behave("a/b", Behaviour::WrongManifestForDigest);
    let path = format!("/v2/a/b/manifests/{}", pushed.digest);
    let lie = content(get(&registry, &path).await).await.unwrap();
    assert_ne!(digest(&lie), pushed.digest);
    let manifest: serde_json::Value = serde_json::from_slice(&lie).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = get(&registry, &format!("/v2/a/b/blobs/{layer}")).await;
    assert_eq!(layer.status(), StatusCode::OK, "the lie holds together");
    let truth = content(get(&registry, "/v2/a/b/manifests/1").await)
        .await
        .unwrap();
    assert_eq!(digest(&truth), pushed.digest);

    registry.behave("a/b", Behaviour::TextInsteadOfJson);
    let text = content(get(&registry, "/v2/a/b/manifests/1").await)
        .await
        .unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap_err();

    registry.behave("a/b", Behaviour::WrongManifestType);
    let answer = get(&registry, "/v2/a/b/manifests/1").await;
    assert_eq!(header(&answer, "content-type"), "text/plain");
    assert_eq!(digest(&content(answer).await.unwrap()), pushed.digest);
}

#[tokio::test]
async fn floods_go_on_as_long_as_the_client_takes_them() {
    async fn swallow(answer: Response, wanted: usize) {
        let mut body = answer.into_body();
        let mut taken = 0;
        while taken < wanted {
            let frame = timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
            taken += frame.into_data().unwrap().len();
        }
    }
    let (registry, pushed) = shelved(Behaviour::EndlessBlob).await;
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&answer, "content-length"), "");
    swallow(answer, 4 << 20).await;

    registry.behave(
        "a/b",
        Behaviour::OversizeBlob {
            declared_bytes: 1 << 30,
        },
    );
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(header(&answer, "content-length"), (1 << 30).to_string());
    swallow(answer, 4 << 20).await;

    registry.behave("a/b", Behaviour::EndlessManifest);
    swallow(get(&registry, "/v2/a/b/manifests/1").await, 4 << 20).await;
}

#[tokio::test]
async fn a_redirected_layer_is_served_and_recorded_elsewhere() {
    let (registry, pushed) = shelved(Behaviour::RedirectBlob).await;
    let answer = get(&registry, &layer_path(&pushed)).await;
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    let place: hyper::Uri = header(&answer, "location").parse().unwrap();
    let authority = place.authority().unwrap().as_str();
    assert_ne!(authority, registry.authority());
    let leak = request("GET", place.path())
        .header("authorization", "Basic dXNlcjpwYTpzcw==")
        .body(Empty::new())
        .unwrap();
    let answer = send(authority, leak).await.unwrap();
    assert_eq!(content(answer).await.unwrap(), LAYER);
    let log = registry.elsewhere_log("a/b");
    assert_eq!(log.len(), 1);
    assert_eq!(
        log[0].authorization.as_ref().unwrap().user.as_deref(),
        Some("user")
    );
}

fn credentials() -> Credentials {
    Credentials {
        user: "user".to_owned(),
        password: "pa:ss".to_owned(),
    }
}

const RIGHT: &str = "Basic dXNlcjpwYTpzcw==";
const WRONG: &str = "Basic dXNlcjp3cm9uZw==";

async fn status_with(registry: &Registry, path: &str, authorization: &str) -> Response {
    let request = request("GET", path)
        .header("authorization", authorization)
        .body(Empty::new())
        .unwrap();
    send(registry.authority(), request).await.unwrap()
}

#[tokio::test]
async fn basic_credentials_are_demanded() {
    let registry = Registry::start_private(Demand::Basic(credentials()))
        .await
        .unwrap();
    registry.push("a/b", "1", Artifact::wasm(LAYER));
    for path in ["/v2/", "/v2/a/b/manifests/1"] {
        let answer = get(&registry, path).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(header(&answer, "www-authenticate").starts_with("Basic "));
        let wrong = status_with(&registry, path, WRONG).await;
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            status_with(&registry, path, RIGHT).await.status(),
            StatusCode::OK
        );
    }
    let users: Vec<_> = registry
        .log("a/b")
        .into_iter()
        .map(|request| request.authorization.and_then(|shown| shown.user))
        .collect();
    assert_eq!(
        users,
        [None, Some("user".to_owned()), Some("user".to_owned())]
    );
    assert!(!format!("{:?}", registry).contains("pa:ss"));
    assert!(!format!("{:?}", registry.log("a/b")).contains("pa:ss"));
}

#[tokio::test]
async fn bearer_tokens_are_given_for_credentials_and_for_one_repository() {
    let registry = Registry::start_private(Demand::Bearer(credentials()))
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
    let wrong = status_with(&registry, path, WRONG).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let answer = content(status_with(&registry, path, RIGHT).await)
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let right = status_with(&registry, "/v2/a/b/manifests/1", &bearer).await;
    assert_eq!(right.status(), StatusCode::OK);
    for (path, with) in [
        ("/v2/c/manifests/1", bearer.as_str()),
        ("/v2/a/b/manifests/1", RIGHT),
    ] {
        let answer = status_with(&registry, path, with).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn requests_are_recorded_and_can_be_awaited() {
    let (registry, pushed) = shelved(Behaviour::HangOnManifest).await;
    let before = std::time::Instant::now();
    let asking = ask(registry.authority(), "GET", "/v2/a/b/manifests/1");
    let seen = registry.wait("a/b", SOON, |log| {
        log.iter().any(|request| request.is_manifest())
    });
    let log = tokio::select! {
        answer = asking => panic!("answered: {answer:?}"),
        log = seen => log.unwrap(),
    };
    assert_eq!(log[0].asked, PendingRequest::Manifest("1".to_owned()));
    assert_eq!(log[0].path, "/v2/a/b/manifests/1");
    assert!(log[0].at >= before);
    let never = registry.wait("a/b", SILENCE, |log| log.len() > 1).await;
    assert_eq!(never.unwrap_err(), log);
    get(&registry, &layer_path(&pushed)).await;
    assert!(registry.log("a/b")[1].is_blob());
    get(&registry, "/v2/").await;
    assert_eq!(registry.log("")[0].asked, PendingRequest::Ping);
    get(&registry, "/v2/unknown/manifests/1").await;
    assert_eq!(registry.log("unknown").len(), 1);
}

#[tokio::test]
async fn a_registry_disappears_and_comes_back_with_its_content() {
    let (registry, pushed) = shelved(Behaviour::HangMidBlob).await;
    let mut body = get(&registry, &layer_path(&pushed)).await.into_body();
    timeout(SOON, body.frame()).await.unwrap().unwrap().unwrap();
    registry.disappear();
    // The open answer is cut, and new connections are refused.
    assert!(timeout(SOON, body.frame()).await.unwrap().unwrap().is_err());
    timeout(SOON, async {
        while ask(registry.authority(), "GET", "/v2/").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    registry.reappear().unwrap();
    registry.reappear().unwrap();
    assert_eq!(
        get(&registry, "/v2/a/b/manifests/1").await.status(),
        StatusCode::OK
    );
}
