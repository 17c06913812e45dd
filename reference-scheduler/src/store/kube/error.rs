//! What went wrong with a request, told apart by what is to be done next.

use std::future::Future;
use std::time::Duration;

use crate::core::WriteError;
use crate::store::ReadError;

/// A failed request.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API server said no, with this code, reason and message.
    Refused {
        code: u16,
        reason: String,
        message: String,
    },
    /// It did not answer, or not in time, or in a way that cannot be read.
    Silent(String),
}

impl Failure {
    /// There is no such object.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// The object has changed since it was read.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, reason, .. } if reason != "AlreadyExists")
    }

    /// The server is too busy to look at the request; it has certainly not been carried out.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Refused { code: 429, .. })
    }

    /// For the core.
    pub(super) fn into_write(self) -> WriteError {
        match self {
            Self::Refused { code: 404, .. } => WriteError::NotFound,
            Self::Refused {
                code: 409, reason, ..
            } if reason == "AlreadyExists" => WriteError::Exists,
            Self::Refused { code: 409, .. } => WriteError::Conflict,
            // 401: a token that is being replaced. 429 and above 500: the server's own trouble.
            Self::Refused {
                code: 401 | 408 | 429 | 500..,
                message,
                ..
            } => WriteError::Unavailable(message),
            Self::Refused { message, .. } => WriteError::Refused(message),
            Self::Silent(message) => WriteError::Unavailable(message),
        }
    }

    /// For whoever resolves references.
    pub(super) fn into_read(self) -> ReadError {
        match self.into_write() {
            WriteError::Unavailable(message) => ReadError::Unavailable(message),
            other => ReadError::Refused(other.to_string()),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message, .. } | Self::Silent(message) => f.write_str(message),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            // A name that fits into no path is no name of an object either.
            kube::Error::BuildRequest(_) => Self::Refused {
                code: 422,
                reason: "Invalid".to_owned(),
                message: chain(&error),
            },
            // The chain without the bodies that some of these errors carry in their Debug form.
            other => Self::Silent(chain(&other)),
        }
    }
}

/// What `request` gives, or silence after `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::Silent(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

/// An error with its causes on one line; a cause that only repeats what was said is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str) -> WriteError {
        Failure::Refused {
            code,
            reason: reason.to_owned(),
            message: "why".to_owned(),
        }
        .into_write()
    }

    #[test]
    fn codes_tell_what_to_do_next() {
        assert_eq!(refused(404, "NotFound"), WriteError::NotFound);
        assert_eq!(refused(409, "AlreadyExists"), WriteError::Exists);
        assert_eq!(refused(409, "Conflict"), WriteError::Conflict);
        assert_eq!(
            refused(422, "Invalid"),
            WriteError::Refused("why".to_owned())
        );
        assert_eq!(
            refused(403, "Forbidden"),
            WriteError::Refused("why".to_owned())
        );
        for code in [401, 429, 500, 503, 504] {
            assert_eq!(refused(code, ""), WriteError::Unavailable("why".to_owned()));
        }
    }
}
