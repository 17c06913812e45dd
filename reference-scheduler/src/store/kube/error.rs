//! Errors of requests to the API server.

use std::future::Future;
use std::time::Duration;

use crate::core::StoreError;

/// Error of a request.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The API server rejected the request.
    Rejected {
        code: u16,
        reason: String,
        message: String,
    },
    /// There was no valid response in time.
    NoResponse(String),
}

impl ApiError {
    /// Returns whether the object does not exist.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Rejected { code: 404, .. })
    }

    /// Returns whether the object has changed since it was read.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Rejected { code: 409, reason, .. } if reason != "AlreadyExists")
    }

    /// Returns whether the server was too busy; the request certainly had no effect.
    pub(super) fn is_throttled(&self) -> bool {
        matches!(self, Self::Rejected { code: 429, .. })
    }
}

impl From<ApiError> for StoreError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Rejected { code: 404, .. } => Self::NotFound,
            ApiError::Rejected {
                code: 409, reason, ..
            } if reason == "AlreadyExists" => Self::Exists,
            ApiError::Rejected { code: 409, .. } => Self::Conflict,
            // 401: a token that is being replaced. 429 and 5xx: a problem of the server.
            ApiError::Rejected {
                code: 401 | 408 | 429 | 500..,
                message,
                ..
            }
            | ApiError::NoResponse(message) => Self::Unavailable(message),
            ApiError::Rejected { message, .. } => Self::Refused(message),
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Rejected { message, .. } | Self::NoResponse(message) => f.write_str(message),
        }
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Rejected {
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            // The name is not valid in a path, so it is not a valid name of an object either.
            kube::Error::BuildRequest(_) => Self::Rejected {
                code: 422,
                reason: "Invalid".to_owned(),
                message: message_with_causes(&error),
            },
            // Display, because Debug of some of these errors contains bodies.
            other => Self::NoResponse(message_with_causes(&other)),
        }
    }
}

/// Runs a request with a timeout.
pub(super) async fn with_timeout<T>(
    timeout: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(timeout, request).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::NoResponse(format!(
            "no response within {} s",
            timeout.as_secs()
        ))),
    }
}

/// Formats an error with its causes on one line, without causes that only repeat it.
fn message_with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(code: u16, reason: &str) -> StoreError {
        ApiError::Rejected {
            code,
            reason: reason.to_owned(),
            message: "why".to_owned(),
        }
        .into()
    }

    #[test]
    fn maps_codes_to_store_errors() {
        assert_eq!(rejected(404, "NotFound"), StoreError::NotFound);
        assert_eq!(rejected(409, "AlreadyExists"), StoreError::Exists);
        assert_eq!(rejected(409, "Conflict"), StoreError::Conflict);
        assert_eq!(
            rejected(422, "Invalid"),
            StoreError::Refused("why".to_owned())
        );
        assert_eq!(
            rejected(403, "Forbidden"),
            StoreError::Refused("why".to_owned())
        );
        for code in [401, 429, 500, 503, 504] {
            assert_eq!(
                rejected(code, ""),
                StoreError::Unavailable("why".to_owned())
            );
        }
    }
}
