//! The answers of a registry that are not layers: read up to a bound, and cleaned before they are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use reqwest::Response;

use crate::image::credentials::Credentials;

/// Enough for the first errors of an error page; the rest is not read.
const DETAIL_BYTES_MAX: u64 = 16 << 10;
/// A registry's words in a message: about a line.
const DETAIL_CHARS_MAX: usize = 160;
/// Shorter secrets are not looked for in a registry's words: they would be found everywhere. They are hidden by
/// showing nothing at all.
const SECRET_CHARS_MIN: usize = 4;

/// Why an answer could not be read.
pub(super) enum ReadError {
    TooLarge,
    Broken(reqwest::Error),
}

/// The body, when it has at most `bytes_max` bytes. Stops reading as soon as it has more.
pub(super) async fn read(mut response: Response, bytes_max: u64) -> Result<Bytes, ReadError> {
    if response
        .content_length()
        .is_some_and(|length| length > bytes_max)
    {
        return Err(ReadError::TooLarge);
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => {
                if (body.len() + piece.len()) as u64 > bytes_max {
                    return Err(ReadError::TooLarge);
                }
                body.extend_from_slice(&piece);
            }
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(ReadError::Broken(error.without_url())),
        }
    }
}

/// What the registry says in its error envelope: the first error, in one short line without secrets; empty when
/// it says nothing of that form.
pub(super) async fn detail(response: Response, secrets: &[String]) -> String {
    match read(response, DETAIL_BYTES_MAX).await {
        Ok(body) => clean(&first_error(&body).unwrap_or_default(), secrets),
        Err(_) => String::new(),
    }
}

/// The token in the answer to a login: the specification has two names for it.
pub(super) fn token(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Login {
        token: Option<String>,
        access_token: Option<String>,
    }
    let login: Login = serde_json::from_slice(body).ok()?;
    let token = login.token.or(login.access_token)?;
    let usable = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    usable.then_some(token)
}

/// The ways in which a registry could echo `credentials`.
pub(super) fn spellings(credentials: &Credentials) -> Vec<String> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    vec![
        STANDARD.encode(pair),
        STANDARD.encode(&credentials.password),
        credentials.password.clone(),
    ]
}

fn first_error(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("errors")?.get(0)?;
    let text = |name: &str| error.get(name).and_then(serde_json::Value::as_str);
    match (text("code"), text("message")) {
        (Some(code), Some(message)) if !message.is_empty() => Some(format!("{code}: {message}")),
        (Some(code), _) => Some(code.to_owned()),
        (None, message) => message.map(str::to_owned),
    }
}

fn clean(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        if secret.chars().count() < SECRET_CHARS_MIN && text.contains(secret.as_str()) {
            return String::new();
        }
        text = text.replace(secret.as_str(), "[redacted]");
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_registry_are_shortened_and_lose_every_secret() {
        let credentials = Credentials {
            username: "bob".into(),
            password: "hunter2".into(),
        };
        let secrets = spellings(&credentials);
        let basic = STANDARD.encode("bob:hunter2");
        let text = format!("bad hunter2 and Basic {basic}\r\n{}", "x".repeat(900));
        let cleaned = clean(&text, &secrets);
        assert!(
            cleaned.starts_with("bad [redacted] and Basic [redacted]  xxx"),
            "{cleaned}"
        );
        assert_eq!(cleaned.chars().count(), DETAIL_CHARS_MAX);

        let short = Credentials {
            username: "bob".into(),
            password: "a".into(),
        };
        assert_eq!(clean("denied: bad", &spellings(&short)), "");
        assert_eq!(clean("denied", &["".into()]), "denied");
    }

    #[test]
    fn the_first_error_of_the_envelope_is_shown() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"X"}]}"#,
                Some("DENIED: no"),
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, Some("DENIED")),
            (r#"{"errors":[{"message":"no"}]}"#, Some("no")),
            (r#"{"errors":[]}"#, None),
            (r#"{"errors":"x"}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(first_error(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_token_is_found_under_both_names_and_checked() {
        for (body, expected) in [
            (r#"{"token":"a","access_token":"b"}"#, Some("a")),
            (r#"{"access_token":"b"}"#, Some("b")),
            (r#"{"token":""}"#, None),
            (r#"{"token":"a\r\nX: y"}"#, None),
            ("text", None),
        ] {
            assert_eq!(token(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
