//! What came back for a request: an answer read leniently, so that checks can judge any of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// The NATS service headers with which a host marks a protocol error.
pub const ERROR_CODE_HEADER: &str = "Nats-Service-Error-Code";
/// One line of text beside the code.
pub const ERROR_HEADER: &str = "Nats-Service-Error";

/// Header lines in the order in which they arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// No headers.
    pub fn none() -> Headers {
        Headers::default()
    }

    /// The first value under that name, compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| &**value)
    }

    /// One more line.
    pub fn with(mut self, name: &str, value: &str) -> Headers {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A `workloadState` as it stood on the wire.
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
    /// The reply has no state.
    Absent,
    /// Something that the schema does not know.
    Other(String),
}

impl State {
    /// Reads a state by name or by number.
    pub fn read(value: Option<&Value>) -> State {
        match value {
            None | Some(Value::Null) => State::Absent,
            Some(Value::String(name)) => State::named(name),
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

    fn named(name: &str) -> State {
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

/// A reply. Reading never fails: what is missing or strange is left for checks and monitors to judge.
#[derive(Clone, Debug)]
pub struct Response {
    /// `workloadStatus.workloadState`.
    pub state: State,
    /// `workloadStatus.workloadId`, empty when it is absent.
    pub id: String,
    /// `workloadStatus.message`, empty when it is absent.
    pub message: String,
    /// The header `Nats-Service-Error-Code`.
    pub error_code: Option<u16>,
    /// All headers.
    pub headers: Headers,
    /// The payload as it arrived.
    pub raw: Bytes,
    /// The payload as JSON, when it is.
    pub json: Option<Value>,
    /// From sending the request to the reply.
    pub took: Duration,
    /// The reply subject, by which failures find the frame in the trace.
    pub inbox: String,
}

impl Response {
    /// Reads a reply.
    pub fn read(raw: Bytes, headers: Headers, inbox: String, took: Duration) -> Response {
        let json: Option<Value> = serde_json::from_slice(&raw).ok();
        let status = json
            .as_ref()
            .and_then(|json| either(json, "workloadStatus", "workload_status"));
        let field =
            |camel: &str, snake: &str| status.and_then(|status| either(status, camel, snake));
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        Response {
            state: State::read(field("workloadState", "workload_state")),
            id: text(field("workloadId", "workload_id")),
            message: text(field("message", "message")),
            error_code: headers
                .get(ERROR_CODE_HEADER)
                .and_then(|code| code.trim().parse().ok()),
            headers,
            raw,
            json,
            took,
            inbox,
        }
    }

    /// For the probe of a wait: the answer itself when it is in that state, else what it says instead.
    pub fn in_state(self, state: State) -> Result<Response, String> {
        if self.state == state {
            Ok(self)
        } else {
            Err(self.to_string())
        }
    }
}

/// The checks' reading is lenient: a host that writes proto names fails the check on names, not all.
fn either<'v>(value: &'v Value, camel: &str, snake: &str) -> Option<&'v Value> {
    value.get(camel).or_else(|| value.get(snake))
}

/// How failures show an answer: `ERROR 409 "id is taken"`.
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

/// What came of a request.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and nearly always an answer"
)]
pub enum Reply {
    /// An answer.
    Response(Response),
    /// The broker said that nobody listens on the subject.
    NoResponders {
        /// From the request to the broker's word.
        took: Duration,
        /// The reply subject.
        inbox: String,
    },
    /// Nothing within the time that was given.
    Silence {
        /// How long was waited.
        waited: Duration,
        /// The reply subject, on which nothing came.
        inbox: String,
    },
}

impl Reply {
    /// The answer, when there is one.
    pub fn answer(&self) -> Option<&Response> {
        match self {
            Reply::Response(answer) => Some(answer),
            Reply::NoResponders { .. } | Reply::Silence { .. } => None,
        }
    }

    /// The reply subject.
    pub fn inbox(&self) -> &str {
        match self {
            Reply::Response(answer) => &answer.inbox,
            Reply::NoResponders { inbox, .. } | Reply::Silence { inbox, .. } => inbox,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Response(answer) => answer.fmt(f),
            Reply::NoResponders { .. } => f.write_str("no responders: the host is not subscribed"),
            Reply::Silence { waited, .. } => {
                write!(f, "no reply within {:.1} s", waited.as_secs_f64())
            }
        }
    }
}

/// The first `max` characters, with a sign that there are more.
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

    fn read(text: &str) -> Response {
        let headers = Headers::none().with("nats-service-error-code", "409");
        Response::read(
            Bytes::copy_from_slice(text.as_bytes()),
            headers,
            "i".into(),
            Duration::ZERO,
        )
    }

    #[test]
    fn reads_what_it_can_of_anything() {
        let full =
            read(r#"{"workloadStatus":{"workloadId":"a","workloadState":"WORKLOAD_STATE_ERROR"}}"#);
        assert_eq!(
            (full.state, full.id.as_str(), full.error_code),
            (State::Error, "a", Some(409))
        );
        let snake = read(r#"{"workload_status":{"workload_state":2}}"#);
        assert_eq!(snake.state, State::Running);
        for nothing in ["", "{}", "[]", "nonsense", r#"{"workloadStatus":null}"#] {
            assert_eq!(read(nothing).state, State::Absent, "{nothing}");
        }
    }

    #[test]
    fn shortens_at_a_character() {
        assert_eq!(shortened("äöü", 2), "äö… (6 bytes)");
        assert_eq!(shortened("äö", 2), "äö");
    }
}
