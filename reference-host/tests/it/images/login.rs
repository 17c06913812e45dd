//! Credentials: whose, when, to whom, and never in words.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_host::image::{PullCause, PullPolicy, Store, StoreOptions};
use serde_json::json;

use super::registry::{Asked, Image, Registry, Reply, ok, with};
use super::{chain, options, pull, pull_as, store};

const PASSWORD: &str = "correct horse";

fn image() -> Image {
    Image::new(&b"\0asm"[..])
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("bob:{password}")))
}

/// Demands Basic credentials, and echoes what it gets when they are wrong.
fn demands_basic(asked: &Asked) -> Reply {
    match &asked.authorization {
        Some(sent) if *sent == basic(PASSWORD) => image().answer(asked),
        sent => {
            let echo = json!({"errors": [{"code": "UNAUTHORIZED", "message":
                format!("bad login {sent:?}, {}", PASSWORD.to_uppercase())}]});
            with(
                401,
                &[("www-authenticate", "Basic realm=\"r\"")],
                echo.to_string(),
            )
        }
    }
}

/// Demands a Bearer token that it gives to bob, or to anybody when `public`.
fn demands_bearer(asked: &Asked, public: bool) -> Reply {
    if asked.path == "/token" {
        return match &asked.authorization {
            Some(sent) if *sent == basic(PASSWORD) => ok("{\"token\": \"for-bob\"}"),
            None if public => ok("{\"access_token\": \"for-bob\"}"),
            _ => with(401, &[], "{}"),
        };
    }
    if asked.authorization.as_deref() == Some("Bearer for-bob") {
        return image().answer(asked);
    }
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:acme/hello:pull\"",
        asked.host
    );
    with(401, &[("www-authenticate", &challenge)], "")
}

fn sent(registry: &Registry) -> Vec<Option<String>> {
    registry
        .asked()
        .into_iter()
        .map(|asked| asked.authorization)
        .collect()
}

#[tokio::test]
async fn credentials_are_sent_when_challenged_and_not_before() {
    let registry = Registry::serve(demands_basic).await;
    pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    let with_password = Some(basic(PASSWORD));
    assert_eq!(
        sent(&registry),
        [None, with_password.clone(), with_password]
    );

    let open = Registry::of(&image()).await;
    pull_as(&store(), open.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    assert_eq!(sent(&open), [None, None]);
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_for_manifest_and_layer() {
    let registry = Registry::serve(|asked| demands_bearer(asked, false)).await;
    pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    let token = || Some("Bearer for-bob".to_owned());
    assert_eq!(
        sent(&registry),
        [None, Some(basic(PASSWORD)), token(), token()]
    );
    let query = &registry.asked()[1].query;
    assert_eq!(query, "service=s&scope=repository%3Aacme%2Fhello%3Apull");
}

#[tokio::test]
async fn a_public_image_behind_tokens_is_pulled_anonymously() {
    let registry = Registry::serve(|asked| demands_bearer(asked, true)).await;
    pull(&store(), registry.image(":1"), PullPolicy::Always)
        .await
        .unwrap();
}

#[tokio::test]
async fn wrong_or_missing_credentials_are_refused_and_never_shown() {
    let bearer = |asked: &Asked| demands_bearer(asked, false);
    for registry in [
        Registry::serve(demands_basic).await,
        Registry::serve(bearer).await,
    ] {
        let reference = registry.image(":1");
        let error = pull(&store(), &reference, PullPolicy::Always)
            .await
            .unwrap_err();
        assert!(
            matches!(error.cause(), PullCause::Unauthorized { sent: false, .. }),
            "{error:?}"
        );

        let error = pull_as(&store(), &reference, "bob", "hunter2")
            .await
            .unwrap_err();
        assert!(
            matches!(error.cause(), PullCause::Unauthorized { sent: true, .. }),
            "{error:?}"
        );
        let text = format!("{} {error:?}", chain(&error));
        let encoded = STANDARD.encode("bob:hunter2");
        assert!(
            !text.contains("hunter2") && !text.contains(&encoded),
            "{text}"
        );
        assert!(text.contains("does not accept the credentials"), "{text}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let elsewhere = Registry::serve(|_| ok(image().layer)).await;
    let to = format!("http://{}/store?signature=abc", elsewhere.address);
    let registry = Registry::serve(move |asked| {
        let allowed = asked.authorization.as_deref() == Some(&basic(PASSWORD));
        match asked.path.contains("/blobs/") && allowed {
            true => with(307, &[("location", &to)], ""),
            false => demands_basic(asked),
        }
    })
    .await;
    let got = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap();
    assert_eq!(got.bytes, image().layer);
    assert_eq!(sent(&elsewhere), [None]);
}

#[tokio::test]
async fn the_target_of_a_redirect_can_neither_challenge_nor_be_quoted() {
    let elsewhere = Registry::serve(|_| {
        let secret = json!({"errors": [{"code": "X", "message": "neighbour's page"}]});
        with(
            401,
            &[("www-authenticate", "Basic realm=\"r\"")],
            secret.to_string(),
        )
    })
    .await;
    let to = format!("http://{}/x?signature=abc", elsewhere.address);
    let registry = Registry::serve(move |_| with(307, &[("location", &to)], "")).await;
    let error = pull_as(&store(), registry.image(":1"), "bob", PASSWORD)
        .await
        .unwrap_err();
    let text = format!("{} {error:?}", chain(&error));
    assert!(
        !text.contains("neighbour") && !text.contains("signature"),
        "{text}"
    );
    assert_eq!(sent(&elsewhere), [None]);
}

#[tokio::test]
async fn a_redirect_to_where_nobody_is_does_not_show_its_signed_address() {
    let gone = Registry::serve(|_| ok("")).await.address;
    let to = format!("http://{gone}/x?signature=abc");
    let registry = Registry::serve(move |_| with(307, &[("location", &to)], "")).await;
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
async fn the_hosts_docker_config_is_used_unless_the_workload_has_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.json");
    let registry = Arc::new(Registry::serve(demands_basic).await);
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
        let expected =
            matches!(error.cause(), PullCause::Unauthorized { sent: s, .. } if *s == sent);
        assert!(expected, "{error:?}");
    }
}

#[tokio::test]
async fn a_login_that_makes_no_sense_is_its_own_error() {
    for (challenge, token, words) in [
        (
            "Bearer realm=\"ftp://a/t\"",
            "",
            "its token address is not https",
        ),
        ("Bearer realm=\"/t\"", "", "its token address is no URL"),
        (
            "Bearer realm=\"http://HOST/token\"",
            "<html>",
            "its answer has no token",
        ),
        (
            "Bearer realm=\"http://HOST/token\"",
            "{\"token\": \"a\\r\\nb\"}",
            "has no token",
        ),
    ] {
        let registry = Registry::serve(move |asked| match asked.path.as_str() {
            "/token" => ok(token),
            _ => {
                let challenge = challenge.replace("HOST", &asked.host);
                with(401, &[("www-authenticate", &challenge)], "")
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
