"""Connections to brokers that misbehave, and the end of a bus."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import berth
from berth.bus._dial import dial
from berth.errors import (
    ConfigurationError,
    InvalidCredentialsError,
    UnreachableError,
    UnreadableFileError,
    UntrustedServerError,
)
from support import Broker, Peer, eventually, with_timeout
from test_connect import Certificates

SECRET = "hunter2"


class ScriptedBroker:
    """A plaintext broker that records what clients send; `greet` completes the handshake."""

    def __init__(self, *, pong: bool, info: dict[str, Any] | None = None, raw_info: bytes = b"") -> None:
        self._pong = pong
        self.info: dict[str, Any] = {
            "server_id": "x",
            "version": "2",
            "headers": True,
            "max_payload": 1_048_576,
        }
        self.info |= info or {}
        self._raw_info = raw_info
        self.received = b""
        self.connections = 0
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(self._raw_info or f"INFO {json.dumps(self.info)}\r\n".encode())
        while data := await reader.read(100_000):
            self.received += data
            if b"CONNECT" not in self.received:  # a TLS handshake
                break
            if self._pong and b"PING\r\n" in data:
                writer.write(b"PONG\r\n")
                await writer.drain()
                break
        writer.close()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[ScriptedBroker]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


Options = Callable[[int, Certificates], berth.ConnectOptions]

TLS_OPTIONS: dict[str, Options] = {
    "CA file": lambda port, tls: berth.ConnectOptions(f"127.0.0.1:{port}", tls_ca_file=tls.ca),
    "client certificate": lambda port, tls: berth.ConnectOptions(
        f"nats://127.0.0.1:{port}", tls_cert_file=tls.client_cert, tls_key_file=tls.client_key
    ),
    "upper-case scheme": lambda port, tls: berth.ConnectOptions(f"TLS://127.0.0.1:{port}"),
    "scheme of another server": lambda port, tls: berth.ConnectOptions(
        ["tls://127.0.0.1:1", f"nats://127.0.0.1:{port}"]
    ),
    "tls_first": lambda port, tls: berth.ConnectOptions(f"127.0.0.1:{port}", tls_first=True),
}


@pytest.mark.parametrize("tls_required", [None, False, 0, "", True])
@pytest.mark.parametrize("name", TLS_OPTIONS)
async def test_sends_no_credentials_to_plaintext_broker_with_any_tls_option(
    tmp_path: Path, name: str, tls_required: object
) -> None:
    info = {} if tls_required is None else {"tls_required": tls_required}
    async with ScriptedBroker(pong=True, info={**info, "auth_required": True}).run() as broker:
        options = TLS_OPTIONS[name](broker.port, Certificates(tmp_path))
        options = berth.ConnectOptions(
            **{field: getattr(options, field) for field in options.__dataclass_fields__}
            | {"auth": berth.Token(SECRET), "connect_timeout_s": 2.0}
        )
        with pytest.raises(UnreachableError):
            await berth.connect(options)
        assert SECRET.encode() not in broker.received
        assert b"CONNECT" not in broker.received


async def test_sends_no_credentials_to_plaintext_broker_at_reconnect(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    tls_broker = Broker(tmp_path, f"{certificates.config()}\nauthorization {{ token: {SECRET} }}")
    async with ScriptedBroker(pong=True).run() as plaintext:
        # As if the cluster had advertised the plaintext broker.
        servers = [tls_broker.url, f"127.0.0.1:{plaintext.port}"]
        options = berth.ConnectOptions(servers, auth=berth.Token(SECRET), tls_ca_file=certificates.ca)
        async with berth.connect(options) as bus:
            tls_broker.stop()
            contacted = plaintext.connections

            async def poll() -> bool | None:
                return plaintext.connections > contacted or None

            await eventually("the plaintext broker is contacted", poll)
            assert not bus.is_connected
    assert SECRET.encode() not in plaintext.received


async def test_uses_tls_that_broker_offers_as_an_option(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    broker = Broker(tmp_path, f"{certificates.config()}\nallow_non_tls: true")
    options = berth.ConnectOptions(broker.url, tls_ca_file=certificates.ca)
    async with berth.connect(options) as bus:
        transport: Any = bus._connection.client._transport  # type: ignore[union-attr]
        assert isinstance(transport._io_writer.get_extra_info("ssl_object"), ssl.SSLObject)
    broker.stop()


CERTIFICATE = trustme.CA().cert_pem.bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing\n",
        b"not a certificate",
        b"\x30\x82\xff",
        CERTIFICATE[:-40],
        CERTIFICATE * 2 + CERTIFICATE[:300],
    ],
)
async def test_refuses_ca_file_without_valid_certificates(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "empty-ca.pem"
    file.write_bytes(content)
    for retry in (False, True):
        with pytest.raises((InvalidCredentialsError, UnreadableFileError), match=r"empty-ca\.pem") as error:
            await berth.connect(
                berth.ConnectOptions("127.0.0.1:1", tls_ca_file=file), retry_on_failed_connect=retry
            )
        assert error.value.__cause__ is not None


@pytest.mark.parametrize("source", ["/dev/null", "absent.pem", ""])
async def test_unusable_files_are_named_with_the_reason(tmp_path: Path, source: str) -> None:
    file = str(tmp_path / source)
    for options in (
        berth.ConnectOptions("127.0.0.1:1", tls_ca_file=file),
        berth.ConnectOptions("127.0.0.1:1", auth=berth.CredentialsFile(file)),
    ):
        with pytest.raises(berth.ConnectError) as error:
            await berth.connect(options)
        assert file in str(error.value)
        assert error.value.__cause__ is not None


async def test_refuses_encrypted_key_without_asking_for_its_passphrase(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as ser
    from cryptography.hazmat.primitives.asymmetric import ec

    certificates = Certificates(tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = ser.BestAvailableEncryption(b"passphrase")
    file = tmp_path / "encrypted.key"
    file.write_bytes(key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.PKCS8, encryption))
    options = berth.ConnectOptions("127.0.0.1:1", tls_cert_file=certificates.client_cert, tls_key_file=file)
    with pytest.raises(InvalidCredentialsError, match=r"encrypted\.key"):
        await berth.connect(options)


async def test_error_for_untrusted_server_names_ca_file_and_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(tmp_path)
    broker = Broker(tmp_path, certificates.config())
    options = berth.ConnectOptions(broker.url, tls_ca_file=certificates.other_ca)
    with pytest.raises(UntrustedServerError, match=r"other\.pem") as error:
        await berth.connect(options)
    assert isinstance(error.value.__cause__, ssl.SSLCertVerificationError)
    # A program that waits for its broker logs both, at the default level.
    caplog.set_level(logging.WARNING, "berth")
    async with berth.connect(options, retry_on_failed_connect=True):

        async def poll() -> bool | None:
            return ("other.pem" in caplog.text and "CERTIFICATE_VERIFY_FAILED" in caplog.text) or None

        await eventually("the cause is logged", poll)
    broker.stop()


@pytest.mark.parametrize("pong", [True, False])
async def test_rate_of_reconnects_is_bounded(pong: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The broker hangs up after the handshake, or before."""
    raw = b"" if pong else b"INFO {}\r\nPONG\r\n-ERR 'go away'\r\n"
    async with ScriptedBroker(pong=True, raw_info=raw).run() as broker:
        async with berth.connect(f"127.0.0.1:{broker.port}", retry_on_failed_connect=True):
            await asyncio.sleep(3)  # the time over which connections are counted
        assert 1 <= broker.connections <= 16
    assert len(caplog.records) < 40


@pytest.mark.parametrize("raw_info", [b"INFO []\r\n", b'INFO {"max_payload":"x"}\r\n', b"INFO 7\r\n", b"\r\n"])
async def test_survives_broker_with_invalid_info(raw_info: bytes) -> None:
    async with (
        ScriptedBroker(pong=True, raw_info=raw_info).run() as broker,
        berth.connect(f"127.0.0.1:{broker.port}", retry_on_failed_connect=True),
    ):

        async def poll() -> bool | None:
            return broker.connections >= 3 or None

        await eventually("the bus goes on trying", poll)


@pytest.mark.parametrize(
    "address", ["nats://a..b:4222", f"nats://{'x' * 70}:4222", "nats://\ud800:4222", "nats://xn--\u20ac:1"]
)
async def test_invalid_host_name_is_a_connect_error(address: str) -> None:
    with pytest.raises(berth.ConnectError):
        await berth.connect(address)


@pytest.mark.parametrize(
    "option",
    [
        {"connect_timeout_s": 0.0},
        {"connect_timeout_s": float("nan")},
        {"connect_timeout_s": float("inf")},
        {"inbox_prefix": ""},
        {"inbox_prefix": "_MINE."},
        {"inbox_prefix": "a b"},
        {"inbox_prefix": "_MINE.*"},
    ],
)
async def test_refuses_invalid_connection_option(option: dict[str, Any]) -> None:
    for retry in (False, True):
        with pytest.raises(ConfigurationError, match=next(iter(option))):
            await berth.connect(berth.ConnectOptions("127.0.0.1:1", **option), retry_on_failed_connect=retry)


async def test_close_ends_pending_requests_and_waiters(broker: Broker) -> None:
    peer = await Peer.connect(broker.url)
    await peer.subscribe("runtime.host.silent.>")
    bus = await berth.connect(broker.url)
    client = berth.HostClient(bus, "silent")
    waiting = [
        asyncio.create_task(client.start("a", berth.Workload())),
        asyncio.create_task(client.status("a")),
        asyncio.create_task(bus.wait_for_state(lambda state: state.generation > 1)),
    ]
    for _ in range(2):
        await peer.receive()
    await bus.close()
    for task in waiting:
        with pytest.raises(berth.BusClosedError):
            await with_timeout(task)
    await peer.close()


async def test_cancelled_first_request_does_not_break_later_requests(broker: Broker) -> None:
    async with berth.connect(broker.url) as bus:
        client = berth.HostClient(bus, "absent", berth.Timeouts(status_s=5))
        first = asyncio.create_task(client.status("a"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait({first})
        with pytest.raises(berth.NoRespondersError):
            await client.status("a")


async def test_dial_reports_one_connect_error_for_any_failure(tmp_path: Path) -> None:
    """`dial` is the only place from which the client library could raise its own errors."""
    from berth.bus._address import Server

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for server in (Server("nats", "127.0.0.1", 1), Server("nats", "\udcff", 1), Server("tls", "", 1)):
        with pytest.raises(berth.ConnectError):
            await dial(server, berth.ConnectOptions(), [], lambda _: None)


async def test_client_library_has_the_private_members_that_are_used(broker: Broker) -> None:
    """A new release of nats-py that lacks one must fail here and not at a user."""
    async with berth.connect(broker.url) as bus:
        subscription = await bus.subscribe("subject", lambda _: None)
        client = bus._connection.client
        assert client is not None
        for hook in ("_connect_command", "_process_info", "_send_unsubscribe"):
            assert callable(getattr(client, hook))
        assert isinstance(client._server_info, dict)
        transport: Any = client._transport
        transport._bare_io_writer.transport.abort  # noqa: B018
        nats_subscription = subscription._client_subscription
        assert nats_subscription is not None
        assert nats_subscription._conn is client
        assert isinstance(nats_subscription._id, int)


async def test_drained_subscription_loses_no_message(broker: Broker) -> None:
    """The broker either routes a request to the subscription or reports no responders."""
    peer = await Peer.connect(broker.url)
    async with berth.connect(broker.url) as bus:
        for _ in range(20):
            await drain_during_requests(bus, peer)
    await peer.close()


async def drain_during_requests(bus: berth.Bus, peer: Peer) -> None:
    received: set[str | None] = set()
    subscription = await bus.subscribe("drained", lambda delivery: received.add(delivery.reply))
    await bus.flush(5)

    async def send() -> set[str]:
        return {await peer.send_request("drained", b"") for _ in range(30)}

    sending = asyncio.create_task(send())
    while not received:
        await asyncio.sleep(0)
    await subscription.drain(5)
    inboxes = await sending
    no_responders = {message.subject for message in await peer.drain()}
    assert no_responders | received == inboxes
