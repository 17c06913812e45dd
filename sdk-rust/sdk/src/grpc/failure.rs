//! Translation of failed calls to [`ClientError`], by the next step of the caller.

use std::error::Error;
use std::io;
use std::time::Duration;

use berth_proto::WorkloadState;
use tonic::{Code, ConnectError, Status};

use crate::client_error::ClientError;

/// Message of tonic's server when the deadline of a call has passed.
const EXPIRED: &str = "Timeout expired";

/// Returns the error of a failed call with the timeout `after`.
pub(super) fn client_error(status: &Status, after: Duration) -> ClientError {
    if let Some(failure) = connect_failure(status) {
        return failure;
    }
    let refused = |code| ClientError::Refused {
        code: Some(code),
        state: WorkloadState::Error,
        message: status.message().to_owned(),
    };
    // The innermost cause names the failure; the status names only the failed step of tonic.
    let reason = || match causes(status).last() {
        Some(cause) => cause.to_string(),
        None => status.message().to_owned(),
    };
    match status.code() {
        // Another host now has the address.
        Code::NotFound => ClientError::NoResponders,
        Code::DeadlineExceeded => ClientError::Timeout { after },
        Code::Cancelled if status.message() == EXPIRED => ClientError::Timeout { after },
        Code::InvalidArgument => refused(400),
        Code::Unimplemented => refused(404),
        Code::ResourceExhausted | Code::OutOfRange => refused(413),
        Code::Unauthenticated | Code::PermissionDenied => {
            ClientError::Unreachable { reason: reason() }
        }
        Code::Internal => ClientError::InvalidResponse { reason: reason() },
        _ => ClientError::ConnectionLost { reason: reason() },
    }
}

/// Returns the error if the call failed to connect. In this case nothing was sent.
fn connect_failure(status: &Status) -> Option<ClientError> {
    let connect = causes(status).find_map(|cause| cause.downcast_ref::<ConnectError>())?;
    let connect: &(dyn Error + 'static) = connect;
    let connection_refused = std::iter::once(connect)
        .chain(causes(connect))
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if connection_refused {
        return Some(ClientError::NoResponders);
    }
    let innermost = causes(connect).last().unwrap_or(connect);
    Some(ClientError::Unreachable {
        reason: innermost.to_string(),
    })
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'a (dyn Error + 'static)| {
        let cause: &'a (dyn Error + 'static) = *cause;
        cause.source()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code, message: &str) -> ClientError {
        client_error(&Status::new(code, message), Duration::from_secs(1))
    }

    #[test]
    fn distinguishes_calls_that_may_have_been_executed() {
        let timeout = ClientError::Timeout {
            after: Duration::from_secs(1),
        };
        assert_eq!(error(Code::DeadlineExceeded, ""), timeout);
        assert_eq!(error(Code::Cancelled, EXPIRED), timeout);
        assert_eq!(error(Code::NotFound, ""), ClientError::NoResponders);
        let lost = ClientError::ConnectionLost { reason: "x".into() };
        for code in [Code::Cancelled, Code::Unavailable, Code::Unknown] {
            assert_eq!(error(code, "x"), lost);
        }
        for (code, number) in [
            (Code::InvalidArgument, 400),
            (Code::Unimplemented, 404),
            (Code::OutOfRange, 413),
            (Code::ResourceExhausted, 413),
        ] {
            let refused = error(code, "x");
            assert!(
                matches!(refused, ClientError::Refused { code: Some(n), .. } if n == number),
                "{refused:?}"
            );
        }
    }
}
