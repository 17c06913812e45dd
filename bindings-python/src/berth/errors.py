"""All errors of the package, in one hierarchy below `BerthError`.

An error describes the failure at its own layer; the underlying error, if any, is its `__cause__`. No error
contains a secret.
"""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import TYPE_CHECKING, Any

from berth._text import printable

if TYPE_CHECKING:
    from berth.state import WorkloadState

_MAX_PATH_BYTES = 512
"""Maximum length of the path in a `DecodeError`; the schema needs less, and the error may be logged."""


class BerthError(Exception):
    """Base class of all errors of this package. They can be copied and pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, Python would call the class with the text of the error.
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(kind: type[BerthError], args: tuple[object, ...], attributes: dict[str, object]) -> BerthError:
    error = kind.__new__(kind, *args)
    error.args = args  # `TimeoutError` does not set them in `__new__`
    error.__dict__.update(attributes)
    return error


class InvalidOptionError(BerthError, ValueError):
    """An option is outside its range."""

    def __init__(self, option: str, requirement: str) -> None:
        super().__init__(f"invalid option `{option}`: {requirement}")
        self.option = option
        """Name of the option, for example `LivenessOptions.lost_after_s`."""


# --- messages


class DecodeError(BerthError):
    """A payload is not a valid message of the expected type.

    The text contains no field value, because values may be secrets.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        # A path may contain any text that a peer has sent as the key of a map.
        path = printable(path, _MAX_PATH_BYTES)
        super().__init__(f"field `{path}`: {problem}" if path else problem)
        self.path = path
        """Path of the invalid field, for example `workload.witWorld.components[0].poolSize`; empty if the
        payload as a whole is invalid."""
        self.problem = problem
        """Description of the problem."""


# --- connections


class ConnectError(BerthError):
    """The connection to the brokers failed, and retrying alone may not help."""


class NoServersError(ConnectError):
    """The options name no server."""

    def __init__(self) -> None:
        super().__init__("no NATS server given")


class InvalidAddressError(ConnectError):
    """A server address is invalid. The text hides its userinfo."""

    def __init__(self, address: str) -> None:
        super().__init__(f"invalid NATS server address {address!r}, expected nats://host:port")
        self.address = address


class ConfigurationError(ConnectError):
    """An option is outside its range, or a client certificate is given without its key or vice versa."""


class UnreadableFileError(ConnectError):
    """A credentials or certificate file cannot be read; the cause has the reason."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot read {path}")
        self.path = path


class InvalidCredentialsError(ConnectError):
    """A seed, a certificate or a credentials file is malformed."""

    def __init__(self, source: str) -> None:
        super().__init__(f"invalid NATS credentials in {source}")
        self.source = source


class AuthenticationError(ConnectError):
    """The servers rejected the credentials."""

    def __init__(self, servers: str) -> None:
        super().__init__(f"the NATS server at {servers} rejected the credentials")
        self.servers = servers


class UnreachableError(ConnectError):
    """No server is reachable and trusted; the cause is the error of the last attempt."""

    def __init__(self, servers: str) -> None:
        super().__init__(f"cannot connect to NATS at {servers}")
        self.servers = servers


class UntrustedServerError(UnreachableError):
    """The certificate of a server cannot be verified; the cause has the reason."""

    def __init__(self, server: str, ca_file: str | Path | None) -> None:
        super().__init__(server)
        roots = "the system roots" if ca_file is None else f"the CA certificates in {ca_file}"
        self.args = (f"cannot verify the certificate of the NATS server at {server} with {roots}",)


class BusClosedError(BerthError):
    """The `Bus` was closed by this process and cannot be used again.

    A command that was in flight may have been executed.
    """

    def __init__(self) -> None:
        super().__init__("the connection to the broker is closed")


# --- commands to a host


class ClientError(BerthError):
    """A command to a host failed. The subclasses differ in what the caller should do next."""


class NoRespondersError(ClientError):
    """No process listens under the host ID: the host ended or is cut off. The command was not executed."""

    def __init__(self) -> None:
        super().__init__("no responders for the host")


class RequestTimeoutError(ClientError, builtins.TimeoutError):
    """A process listens under the host ID but did not reply in time.

    The command may have been executed, or may still be executed: call `status`. A `wash host` does not reply
    to a request that it cannot decode, nor while it pulls an image.
    """

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no reply from the host within {timeout_s:g} s")
        self.timeout_s = timeout_s
        """Timeout of the request, in seconds."""


class RefusedError(ClientError):
    """The host refused the command or could not execute it."""

    def __init__(self, code: int | None, state: WorkloadState, message: str) -> None:
        super().__init__(f"the host refused the command: {message}")
        self.code = code
        """400, 404, 409, 413 or 503; `None` if the host sends no codes, or if it accepted the workload but
        could not start it. 409 in reply to a retry means that the first request arrived."""
        self.state = state
        """State in the reply."""
        self.message = message
        """Human-readable reason."""


class InvalidResponseError(ClientError):
    """The host replied with an invalid response."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid response from the host: {reason}")
        self.reason = reason


class NotSentError(ClientError):
    """The request was not sent."""


class FleetStateError(BerthError, RuntimeError):
    """The operation needs a fleet that is being watched, or one that has not been watched yet."""


class DisconnectedError(NotSentError):
    """The connection to the broker is down and is being re-established. The request was not sent."""

    def __init__(self) -> None:
        super().__init__("not connected to the broker")


class RequestTooLargeError(NotSentError):
    """The request exceeds the maximum payload of the broker. The request was not sent."""

    def __init__(self) -> None:
        super().__init__("the request exceeds the maximum payload of the broker")


class InvalidHostIdError(NotSentError, ValueError):
    """The host ID is invalid, because it is not a single subject token. The request was not sent."""

    def __init__(self, host_id: str) -> None:
        super().__init__(f"invalid host ID {host_id!r}")
        self.host_id = host_id


class EncodeError(NotSentError):
    """A message cannot be encoded as JSON, because no reader would accept it.

    A field holds an enum number without a name, a number that is not finite, text with an unpaired surrogate or
    a timestamp out of range, or the message has too many values. The request was not sent.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"cannot encode the message as JSON: field `{field}` {problem}")
        self.field = field
        """Message type and field, for example `Component.image_pull_policy`."""


# --- hosts


class ServeError(BerthError):
    """A host cannot be served, because peers would misread its options or its description."""


class StartError(BerthError):
    """Raised by `Host.start` if the workload cannot be started.

    The message goes to the scheduler and from there to users: name the component and the image, and never
    include a credential. The scheduler may start the ID again at once, unless the error is non-retryable: then
    the ID stays in use until it is stopped, so that a retry after a lost reply cannot run the guest twice.
    """

    def __init__(self, message: str, *, non_retryable: bool = False) -> None:
        super().__init__(message)
        self.message = str(message)  # an exception, for example, is not a string
        """Message for the scheduler."""
        self.non_retryable = non_retryable
        """Whether guest code has run."""
