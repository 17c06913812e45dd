"""Everything that goes wrong, in one hierarchy below `BerthError`.

Errors say what is wrong at their own layer; the cause, where there is one, is their `__cause__`. None of them
quotes a secret.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from berth.state import WorkloadState


class BerthError(Exception):
    """The root of all errors of this package."""


# --- messages


class ReadError(BerthError):
    """A payload is no message of the expected kind. The text quotes no value: values may be secrets."""

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"field `{path}`: {problem}" if path else problem)
        self.path = path
        """The field that is wrong, as `workload.witWorld.components[0].poolSize`; empty for the payload."""
        self.problem = problem
        """What is wrong with it, in words."""


class WriteError(BerthError):
    """A message cannot be written: an enum holds a number that has no name."""


# --- connections


class ConnectError(BerthError):
    """There is no connection to the brokers, and waiting alone need not mend it."""


class NoServer(ConnectError):
    """No server was named."""

    def __init__(self) -> None:
        super().__init__("no server is named")


class BadAddress(ConnectError):
    """The address of a server is none; userinfo is hidden."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address!r} is not the address of a NATS server (nats://host:port)")
        self.address = address


class HalfAPair(ConnectError):
    """A certificate without its key, or a key without its certificate."""

    def __init__(self) -> None:
        super().__init__("a client certificate needs both its file and the file of its key")


class UnreadableFile(ConnectError):
    """A file of credentials or certificates cannot be read; the cause says why."""

    def __init__(self, path: str) -> None:
        super().__init__(f"cannot read {path}")
        self.path = path


class BadCredentials(ConnectError):
    """A seed, a certificate or a file of credentials is not in the form it must have."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not usable as NATS credentials")
        self.what = what


class CredentialsRefused(ConnectError):
    """The servers do not know us."""

    def __init__(self, servers: str) -> None:
        super().__init__(f"the NATS server at {servers} refuses our credentials")
        self.servers = servers


class Unreachable(ConnectError):
    """No server can be reached, or none that we trust; the cause is what the last one said."""

    def __init__(self, servers: str) -> None:
        super().__init__(f"cannot connect to NATS at {servers}")
        self.servers = servers


class BusClosed(BerthError):
    """The connection was closed on this side, for good."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker is closed")


# --- commands to a host


class ClientError(BerthError):
    """A command to a host did not succeed. The subclasses differ in what to do next."""


class NoResponders(ClientError):
    """Nobody listens under the id of the host: its process is gone, or cut off. Nothing was done."""

    def __init__(self) -> None:
        super().__init__("no host listens")


class Timeout(ClientError, builtins.TimeoutError):
    """Somebody listens and did not answer. The command may have been carried out, or may still be.

    Ask `status`. A `wash host` is silent to what it cannot decode, and while it pulls.
    """

    def __init__(self, after_s: float) -> None:
        super().__init__(f"the host did not answer within {after_s:g} s")
        self.after_s = after_s
        """How long the answer was waited for, in seconds."""


class Refused(ClientError):
    """The host answered that it does not obey, or could not."""

    def __init__(self, code: int | None, state: WorkloadState, message: str) -> None:
        super().__init__(f"the host refused: {message}")
        self.code = code
        """400, 404, 409, 413 or 503; `None` from hosts that send none, and when the workload was accepted
        but could not be started. 409 in answer to a retry says that the first one arrived."""
        self.state = state
        """The state in the answer."""
        self.message = message
        """For people."""


class Malformed(ClientError):
    """The host answered what is no answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the host's answer is malformed: {reason}")
        self.reason = reason


class NotSent(ClientError):
    """Nothing was sent."""


class Disconnected(NotSent):
    """There is no connection to the broker now; it is being made again. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__("there is no connection to the broker")


class TooLarge(NotSent):
    """The request is larger than the broker takes. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__("the request is larger than the broker takes")


class BadHostId(NotSent, ValueError):
    """This cannot be the id of a host: it does not fit into a subject. Nothing was sent."""

    def __init__(self, host_id: str) -> None:
        super().__init__(f"{host_id!r} cannot be the id of a host")
        self.host_id = host_id


class Unwritable(NotSent):
    """The request cannot be written, because an enum holds a number without a name. Nothing was sent."""

    def __init__(self) -> None:
        super().__init__("the request cannot be written as JSON")


# --- hosts


class ServeError(BerthError):
    """A host cannot be served: its options or its description are ones that peers would misread."""


class Refusal(BerthError):
    """Raised by `Host.start`: why a workload could not be brought up.

    The message goes to the scheduler and from there to people: name the component and the image, and never a
    credential. The id may be started again at once, unless guest code has run: then it stays taken until it is
    stopped, so that the retry of a lost reply cannot run it twice.
    """

    def __init__(self, message: str, *, guest_ran: bool = False) -> None:
        super().__init__(message)
        self.message = message
        """What the scheduler is told."""
        self.guest_ran = guest_ran
        """Whether guest code has run."""
