//! Registry credentials: when they are sent, to which hosts, and that no message contains them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use serde_json::json;

use super::mock_registry::{Image, MockRegistry, MockResponse, ReceivedRequest, ok, respond_with};
use super::{chain, options, pull, pull_as, store};

const PASSWORD: &str = "correct horse";

fn image() -> Image {
    Image::new(&b"\0asm"[..])
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("bob:{password}")))
}

/// Requires Basic credentials, and echoes invalid ones in its error message.
fn requires_basic(request: &ReceivedRequest) -> MockResponse {
    match &request.authorization {
        Some(sent) if *sent == basic(PASSWORD) => image().respond(request),
        sent => {
            let message = format!("bad login {sent:?}");
            let echo = json!({"errors": [{"code": "UNAUTHORIZED", "message": message}]});
            respond_with(
                401,
                &[("www-authenticate", "Basic realm=\"r\"")],
                echo.to_string(),
            )
        }
    }
}

const PUBLIC: bool = true;
const PRIVATE: bool = false;

/// Requires a Bearer token, and issues it to bob or, if `public`, also to anonymous clients.
fn requires_bearer(request: &ReceivedRequest, public: bool) -> MockResponse {
    if request.path == "/token" {
        return match &request.authorization {
            Some(sent) if *sent == basic(PASSWORD) => ok("{\"token\": \"valid-token\"}"),
            None if public => ok("{\"access_token\": \"valid-token\"}"),
            _ => respond_with(401, &[], "{}"),
        };
    }
    if request.authorization.as_deref() == Some("Bearer valid-token") {
        return image().respond(request);
    }
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:acme/hello:pull\"",
        request.host
    );
    respond_with(401, &[("www-authenticate", &challenge)], "")
}

fn sent_credentials(registry: &MockRegistry) -> Vec<Option<String>> {
    registry
        .requests()
        .into_iter()
        .map(|request| request.authorization)
        .collect()
}

#[tokio::test]
async fn sends_credentials_only_after_a_challenge() {
    let registry = MockRegistry::serve(requires_basic).await;
    pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    let with_password = Some(basic(PASSWORD));
    assert_eq!(
        sent_credentials(&registry),
        [None, with_password.clone(), with_password]
    );

    let open = MockRegistry::of(&image()).await;
    pull_as(&store(), open.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    assert_eq!(sent_credentials(&open), [None, None]);
}

#[tokio::test]
async fn fetches_token_once_for_manifest_and_layer() {
    let registry = MockRegistry::serve(|request| requires_bearer(request, PRIVATE)).await;
    pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    let token = || Some("Bearer valid-token".to_owned());
    assert_eq!(
        sent_credentials(&registry),
        [None, Some(basic(PASSWORD)), token(), token()]
    );
    let query = &registry.requests()[1].query;
    assert_eq!(query, "service=s&scope=repository%3Aacme%2Fhello%3Apull");
}

#[tokio::test]
async fn pulls_public_image_with_anonymous_token() {
    let registry = MockRegistry::serve(|request| requires_bearer(request, PUBLIC)).await;
    pull(&store(), registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
}

#[tokio::test]
async fn reports_wrong_or_missing_credentials_without_showing_them() {
    let bearer = |request: &ReceivedRequest| requires_bearer(request, PRIVATE);
    for registry in [
        MockRegistry::serve(requires_basic).await,
        MockRegistry::serve(bearer).await,
    ] {
        let reference = registry.image(":1");
        let error = pull(&store(), &reference, PullPolicy::Always)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error.cause(),
                PullCause::Unauthorized {
                    credentials_sent: false,
                    ..
                }
            ),
            "{error:?}"
        );

        let error = pull_as(&store(), &reference, "bob", "hunter2")
            .await
            .unwrap_err();
        assert!(
            matches!(
                error.cause(),
                PullCause::Unauthorized {
                    credentials_sent: true,
                    ..
                }
            ),
            "{error:?}"
        );
        let text = format!("{} {error:?}", chain(&error));
        let encoded = STANDARD.encode("bob:hunter2");
        assert!(
            !text.contains("hunter2") && !text.contains(&encoded),
            "{text}"
        );
        assert!(text.contains("rejected the credentials"), "{text}");
    }
}

#[tokio::test]
async fn does_not_send_credentials_to_redirect_target() {
    let elsewhere = MockRegistry::serve(|_| ok(image().layer)).await;
    let to = format!("http://{}/store?signature=abc", elsewhere.address);
    let registry = MockRegistry::serve(move |request| {
        let allowed = request.authorization.as_deref() == Some(&basic(PASSWORD));
        if request.path.contains("/blobs/") && allowed {
            respond_with(307, &[("location", &to)], "")
        } else {
            requires_basic(request)
        }
    })
    .await;
    let artifact = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    assert_eq!(artifact.bytes, image().layer);
    assert_eq!(sent_credentials(&elsewhere), [None]);
}

#[tokio::test]
async fn ignores_challenge_and_message_of_redirect_target() {
    let elsewhere = MockRegistry::serve(|_| {
        let secret = json!({"errors": [{"code": "X", "message": "internal page"}]});
        respond_with(
            401,
            &[("www-authenticate", "Basic realm=\"r\"")],
            secret.to_string(),
        )
    })
    .await;
    let to = format!("http://{}/x?signature=abc", elsewhere.address);
    let registry = MockRegistry::serve(move |_| respond_with(307, &[("location", &to)], "")).await;
    let error = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(
        !text.contains("internal page") && !text.contains("signature"),
        "{text}"
    );
    assert_eq!(sent_credentials(&elsewhere), [None]);
}

#[tokio::test]
async fn does_not_show_signed_url_of_unreachable_redirect_target() {
    let gone = MockRegistry::serve(|_| ok("")).await.address;
    let to = format!("http://{gone}/x?signature=abc");
    let registry = MockRegistry::serve(move |_| respond_with(307, &[("location", &to)], "")).await;
    let error = pull(&store(), registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap_err();
    assert!(
        matches!(error.cause(), PullCause::Connect { .. }),
        "{error:?}"
    );
    let text = format!("{} {error:?}", chain(&error));
    assert!(!text.contains("signature"), "{text}");
    assert!(text.contains(&gone.ip().to_string()), "{text}");
}

#[tokio::test]
async fn docker_config_entry_of_another_repository_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.json");
    let registry = Arc::new(MockRegistry::serve(requires_basic).await);
    let store = Store::new(StoreOptions {
        docker_config: Some(config.clone()),
        ..options()
    })
    .unwrap();
    let right = STANDARD.encode(format!("bob:{PASSWORD}"));
    let wrong = STANDARD.encode("eve:other");
    for (path, sent) in [
        ("/acme", true),
        ("/acme/hello", true),
        ("/acm", false),
        ("/a", false),
    ] {
        let address = registry.address;
        let entries = json!({
            format!("{address}{path}"): {"auth": right},
            format!("{address}/acme/hell"): {"auth": wrong},
        });
        std::fs::write(&config, json!({"auths": entries}).to_string()).unwrap();
        let result = pull(&store, registry.image(":1"), PullPolicy::Always).await;
        assert_eq!(result.is_ok(), sent, "{path}: {result:?}");
    }
    let wrong = Some(format!("Basic {wrong}"));
    assert!(
        registry
            .requests()
            .iter()
            .all(|it| it.authorization != wrong)
    );
}

#[tokio::test]
async fn uses_docker_config_unless_workload_has_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.json");
    let registry = Arc::new(MockRegistry::serve(requires_basic).await);
    let auth = STANDARD.encode(format!("bob:{PASSWORD}"));
    let auths = json!({"auths": {registry.address.to_string(): {"auth": auth}}});
    std::fs::write(&config, auths.to_string()).unwrap();
    let options = StoreOptions {
        docker_config: Some(config),
        ..options()
    };
    let store = Store::new(options).unwrap();

    pull(&store, registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
    for (user, password, sent) in [("bob", "wrong", true), ("", "", false)] {
        let error = pull_as(&store, registry.image(":1"), user, password)
            .await
            .unwrap_err();
        let PullCause::Unauthorized {
            credentials_sent, ..
        } = error.cause()
        else {
            panic!("{error:?}");
        };
        assert_eq!(*credentials_sent, sent);
    }
}

#[tokio::test]
async fn reports_invalid_challenge_and_token() {
    for (challenge, token, words) in [
        (
            "Bearer realm=\"ftp://a/t\"",
            "",
            "its token endpoint is not https",
        ),
        ("Bearer realm=\"/t\"", "", "its token endpoint is not a URL"),
        (
            "Bearer realm=\"http://HOST/token\"",
            "<html>",
            "its response has no token",
        ),
        (
            "Bearer realm=\"http://HOST/token\"",
            "{\"token\": \"a\\r\\nb\"}",
            "has no token",
        ),
    ] {
        let registry = MockRegistry::serve(move |request| match request.path.as_str() {
            "/token" => ok(token),
            _ => {
                let challenge = challenge.replace("HOST", &request.host);
                respond_with(401, &[("www-authenticate", &challenge)], "")
            }
        })
        .await;
        let error = pull(&store(), registry.image(":1"), PullPolicy::Always)
            .await
            .unwrap_err();
        assert!(
            matches!(error.cause(), PullCause::Login { .. }),
            "{error:?}"
        );
        assert!(chain(&error).contains(words), "{}", chain(&error));
    }
}

#[tokio::test]
async fn follows_redirects_of_the_token_endpoint_without_credentials_for_others() {
    for same_host in [true, false] {
        let target = MockRegistry::serve(|_| ok("{\"token\": \"moved\"}")).await;
        let elsewhere = format!("http://{}/moved", target.address);
        let registry = MockRegistry::serve(move |request| {
            if request.path == "/moved" {
                return ok("{\"token\": \"moved\"}");
            }
            if request.path == "/token" {
                let here = format!("http://{}/moved", request.host);
                let to = if same_host { here } else { elsewhere.clone() };
                return respond_with(307, &[("location", &to)], "");
            }
            if request.authorization.as_deref() == Some("Bearer moved") {
                return Image::new("x").respond(request);
            }
            let challenge = format!("Bearer realm=\"http://{}/token\"", request.host);
            respond_with(401, &[("www-authenticate", &challenge)], "")
        })
        .await;
        let artifact = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
            .await
            .unwrap();
        assert_eq!(artifact.bytes, "x");
        let basic = Some(format!(
            "Basic {}",
            STANDARD.encode(format!("bob:{PASSWORD}"))
        ));
        let moved = if same_host { &registry } else { &target };
        let requests = moved.requests();
        let token_request = requests.iter().find(|it| it.path == "/moved").unwrap();
        let sent = token_request.authorization == basic;
        assert_eq!(sent, same_host, "{token_request:?}");
    }
}

#[tokio::test]
async fn does_not_follow_redirects_with_a_user() {
    let target = MockRegistry::serve(|_| ok("")).await;
    let to = format!("http://registry:secret@{}/x", target.address);
    let registry = MockRegistry::serve(move |_| respond_with(307, &[("location", &to)], "")).await;
    let error = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap_err();
    let text = chain(&error);
    assert!(text.contains("its target includes a user"), "{text}");
    assert!(!text.contains("secret") && target.requests().is_empty());
}
