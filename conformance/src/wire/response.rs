//! Lenient parsing of replies, so that checks can judge every part of an invalid one.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// NATS service header with the code of a protocol error.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";
/// NATS service header with a one-line description of the error.
pub const ERROR_HEADER: &str = "Nats-Service-Error";

/// Header lines in the order of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Returns empty headers.
    pub fn none() -> Headers {
        Headers::default()
    }

    /// Returns the first value of a header. Ignores the case of the name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// Returns the first value of a header whose name has this spelling: NATS distinguishes
    /// uppercase and lowercase in names.
    pub fn get_exact(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value)
    }

    /// Appends a header.
    pub fn with(mut self, name: &str, value: &str) -> Headers {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Value of `workloadState` in a message.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// `WORKLOAD_STATE_UNSPECIFIED`.
    Unspecified,
    /// `WORKLOAD_STATE_STARTING`.
    Starting,
    /// `WORKLOAD_STATE_RUNNING`.
    Running,
    /// `WORKLOAD_STATE_COMPLETED`.
    Completed,
    /// `WORKLOAD_STATE_STOPPING`.
    Stopping,
    /// `WORKLOAD_STATE_ERROR`.
    Error,
    /// `WORKLOAD_STATE_NOT_FOUND`.
    NotFound,
    /// The message has no state.
    Absent,
    /// Value outside the schema.
    Other(String),
}

impl State {
    /// Parses a state, given by name or by number.
    pub fn parse(value: Option<&Value>) -> State {
        match value {
            None | Some(Value::Null) => State::Absent,
            Some(Value::String(name)) => State::parse_name(name),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(0) => State::Unspecified,
                Some(1) => State::Starting,
                Some(2) => State::Running,
                Some(3) => State::Completed,
                Some(4) => State::Stopping,
                Some(5) => State::Error,
                Some(6) => State::NotFound,
                _ => State::Other(number.to_string()),
            },
            Some(other) => State::Other(other.to_string()),
        }
    }

    fn parse_name(name: &str) -> State {
        match name.strip_prefix("WORKLOAD_STATE_") {
            Some("UNSPECIFIED") => State::Unspecified,
            Some("STARTING") => State::Starting,
            Some("RUNNING") => State::Running,
            Some("COMPLETED") => State::Completed,
            Some("STOPPING") => State::Stopping,
            Some("ERROR") => State::Error,
            Some("NOT_FOUND") => State::NotFound,
            _ => State::Other(name.to_owned()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unspecified => "UNSPECIFIED",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Completed => "COMPLETED",
            State::Stopping => "STOPPING",
            State::Error => "ERROR",
            State::NotFound => "NOT_FOUND",
            State::Absent => "no state",
            State::Other(text) => return write!(f, "the unknown state {text:?}"),
        })
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parsed reply. Parsing never fails: checks and monitors judge missing and invalid parts.
#[derive(Clone, Debug)]
pub struct Response {
    /// `workloadStatus.workloadState`.
    pub state: State,
    /// `workloadStatus.workloadId`; empty if absent.
    pub id: String,
    /// `workloadStatus.message`; empty if absent.
    pub message: String,
    /// Value of the header `Nats-Service-Error-Code`.
    pub error_code: Option<u16>,
    /// All headers.
    pub headers: Headers,
    /// Payload.
    pub raw: Bytes,
    /// Payload as JSON, if valid.
    pub json: Option<Value>,
    /// Time from the request to the reply.
    pub latency: Duration,
    /// Reply subject, by which reports find the frame in the trace.
    pub inbox: String,
}

impl Response {
    /// Parses a reply.
    pub fn parse(raw: Bytes, headers: Headers, inbox: String, latency: Duration) -> Response {
        let json: Option<Value> = serde_json::from_slice(&raw).ok();
        let status = json
            .as_ref()
            .and_then(|json| either(json, "workloadStatus", "workload_status"));
        let field =
            |camel: &str, snake: &str| status.and_then(|status| either(status, camel, snake));
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Response {
            state: State::parse(field("workloadState", "workload_state")),
            id: text(field("workloadId", "workload_id")),
            message: text(field("message", "message")),
            error_code: headers
                .get_exact(ERROR_CODE_HEADER)
                .and_then(|code| code.trim().parse().ok()),
            headers,
            raw,
            json,
            latency,
            inbox,
        }
    }

    /// Returns the response itself if it has this state, or else its text, for the probe of a wait.
    pub fn in_state(self, state: State) -> Result<Response, String> {
        if self.state == state {
            Ok(self)
        } else {
            Err(self.to_string())
        }
    }
}

/// Returns the field under its JSON name or its proto name, so that a host that writes proto names
/// fails only the check of field names.
fn either<'v>(value: &'v Value, camel: &str, snake: &str) -> Option<&'v Value> {
    value.get(camel).or_else(|| value.get(snake))
}

/// Formats the response for a report: `ERROR with code 409, message "id is taken"`.
impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        if let Some(code) = self.error_code {
            write!(f, " with code {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ", message {:?}", shortened(&self.message, 200))?;
        }
        if self.state == State::Absent {
            write!(
                f,
                " in {:?}",
                shortened(&String::from_utf8_lossy(&self.raw), 200)
            )?;
        }
        Ok(())
    }
}

/// Result of a request.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, and nearly always a response"
)]
pub enum Reply {
    /// The host replied.
    Response(Response),
    /// The broker reported that the subject has no subscriber.
    NoResponders {
        /// Time from the request to the report.
        latency: Duration,
        /// Reply subject.
        inbox: String,
    },
    /// No reply arrived in time.
    Timeout {
        /// Length of the wait.
        waited: Duration,
        /// Reply subject.
        inbox: String,
    },
}

impl Reply {
    /// Returns the response, if the host replied.
    pub fn response(&self) -> Option<&Response> {
        match self {
            Reply::Response(response) => Some(response),
            Reply::NoResponders { .. } | Reply::Timeout { .. } => None,
        }
    }

    /// Returns the reply subject.
    pub fn inbox(&self) -> &str {
        match self {
            Reply::Response(response) => &response.inbox,
            Reply::NoResponders { inbox, .. } | Reply::Timeout { inbox, .. } => inbox,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Response(response) => response.fmt(f),
            Reply::NoResponders { .. } => f.write_str("no responders: the host is not subscribed"),
            Reply::Timeout { waited, .. } => {
                write!(f, "no reply within {:.1} s", waited.as_secs_f64())
            }
        }
    }
}

/// Shortens text to `max` characters, and then appends an ellipsis and the length.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!(
            "{}… ({} bytes)",
            text.get(..at).unwrap_or_default(),
            text.len()
        ),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Response {
        let headers = Headers::none()
            .with("nats-service-error-code", "400")
            .with("Nats-Service-Error-Code", "409");
        Response::parse(
            Bytes::copy_from_slice(text.as_bytes()),
            headers,
            "i".into(),
            Duration::ZERO,
        )
    }

    #[test]
    fn parses_valid_and_invalid_replies() {
        let full = parse(
            r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_ERROR"}}"#,
        );
        assert_eq!(
            (full.state, full.id.as_str(), full.error_code),
            (State::Error, "a", Some(409))
        );
        let snake = parse(r#"{"workload_status":{"workload_state":2}}"#);
        assert_eq!(snake.state, State::Running);
        for nothing in ["", "{}", "[]", "nonsense", r#"{"workloadStatus":null}"#] {
            assert_eq!(parse(nothing).state, State::Absent, "{nothing}");
        }
    }

    #[test]
    fn shortens_at_a_character_boundary() {
        assert_eq!(shortened("äöü", 2), "äö… (6 bytes)");
        assert_eq!(shortened("äö", 2), "äö");
    }
}
