//! Small responses of a registry (not layers): read with a size limit, and cleaned before they are
//! shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use reqwest::Response;

use crate::image::credentials::Credentials;

/// Size limit of an error response: enough for the first errors of an error page.
const DETAIL_BYTES_MAX: u64 = 16 << 10;
/// Length limit of a registry's message in an error: about a line.
const DETAIL_CHARS_MAX: usize = 160;
/// Minimum length of a secret that is replaced in a registry's message. A shorter secret would
/// match everywhere, so a message that contains it is not shown at all.
const SECRET_CHARS_MIN: usize = 4;

/// Reason why a response cannot be read.
pub(super) enum ReadError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body of at most `bytes_max` bytes. Stops as soon as it exceeds them.
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
            Ok(Some(chunk)) => {
                if (body.len() + chunk.len()) as u64 > bytes_max {
                    return Err(ReadError::TooLarge);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(ReadError::Broken(error.without_url())),
        }
    }
}

/// Returns the first error of the registry's error envelope in one short line without secrets, or
/// an empty string if there is none.
pub(super) async fn detail(response: Response, secrets: &[String]) -> String {
    match read(response, DETAIL_BYTES_MAX).await {
        Ok(body) => clean(&first_error(&body).unwrap_or_default(), secrets),
        Err(_) => String::new(),
    }
}

/// Returns the token of a login response. The specification has two names for it.
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

/// Returns the forms in which a registry could echo `credentials`.
pub(super) fn secret_forms(credentials: &Credentials) -> Vec<String> {
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
    fn shortens_messages_and_removes_secrets() {
        let credentials = Credentials {
            username: "bob".into(),
            password: "hunter2".into(),
        };
        let secrets = secret_forms(&credentials);
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
        assert_eq!(clean("denied: bad", &secret_forms(&short)), "");
        assert_eq!(clean("denied", &["".into()]), "denied");
    }

    #[test]
    fn extracts_first_error_of_the_envelope() {
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
    fn accepts_both_names_of_a_token_and_validates_it() {
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
