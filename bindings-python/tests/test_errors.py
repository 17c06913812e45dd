"""The errors: they can be copied and pickled, and text of peers in them fits into one line."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import berth
from berth import errors

EXAMPLES: list[berth.BerthError] = [
    errors.BerthError("a"),
    errors.InvalidOptionError("Timeouts.start_s", "must be positive"),
    errors.DecodeError("expected a string", "workload.name"),
    errors.ConnectError("a"),
    errors.NoServersError(),
    errors.InvalidAddressError("***@a"),
    errors.ConfigurationError("a"),
    errors.UnreadableFileError("me.creds"),
    errors.InvalidCredentialsError("me.creds"),
    errors.AuthenticationError("nats://a"),
    errors.UnreachableError("nats://a"),
    errors.UntrustedServerError("nats://a", "ca.pem"),
    errors.BusClosedError(),
    errors.ClientError("a"),
    errors.NoRespondersError(),
    errors.RequestTimeoutError(0.5),
    errors.RefusedError(409, berth.WorkloadState.ERROR, "in use"),
    errors.InvalidResponseError("empty"),
    errors.NotSentError("a"),
    errors.FleetStateError("a"),
    errors.DisconnectedError(),
    errors.RequestTooLargeError(),
    errors.InvalidHostIdError("a.b"),
    errors.EncodeError("Workload.name", "is invalid"),
    errors.ServeError("a"),
    errors.StartError("a", non_retryable=True),
]


def test_examples_are_all_errors() -> None:
    classes = {member for member in vars(errors).values() if inspect.isclass(member)}
    assert {type(error) for error in EXAMPLES} == {
        each for each in classes if issubclass(each, berth.BerthError)
    }


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_can_be_copied_and_pickled(error: berth.BerthError) -> None:
    error.add_note("a note")
    copies: list[Any] = [copy.copy(error), copy.deepcopy(error)]
    copies += [pickle.loads(pickle.dumps(error, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in copies:
        assert type(other) is type(error)
        assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


class CustomError(berth.StartError):
    """An error of a host's author."""

    def __init__(self, image: str, *, registry: str) -> None:
        super().__init__(f"{image} is not in {registry}")
        self.registry = registry


def test_subclass_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(CustomError("a", registry="b")))
    assert (type(error), str(error), error.registry) == (CustomError, "a is not in b", "b")


def test_path_from_a_peer_fits_into_a_line() -> None:
    key = '"' + "a\\n\\ud800\\u001b" * 10_000 + '"'
    payload = f'{{"localResources":{{"environment":{{{key}:7}}}}}}'
    with pytest.raises(errors.DecodeError) as error:
        berth.encoding.decode(berth.proto.Service, payload.encode())
    text = str(error.value)
    assert "field `localResources.environment" in text
    assert len(text) < 1000
    assert text.isprintable()
