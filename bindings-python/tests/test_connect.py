"""Connection options, each against a nats-server that requires it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme

import berth
from berth.bus._address import Server, parse_servers
from berth.bus._connection import MAX_DELAY_S, delay_s
from berth.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    InvalidAddressError,
    InvalidCredentialsError,
    NoServersError,
    UnreachableError,
    UnreadableFileError,
)
from support import Broker, ServedHost, eventually


async def assert_connects(options: berth.ConnectOptions | str) -> None:
    """Checks that a published message is received."""
    async with berth.connect(options) as bus:
        payloads: asyncio.Queue[bytes] = asyncio.Queue()
        await bus.subscribe("subject", lambda delivery: payloads.put_nowait(delivery.payload))
        await bus.publish("subject", b"payload")
        async with asyncio.timeout(10):
            assert await payloads.get() == b"payload"
        assert bus.connection_state == berth.ConnectionState(connected=True, generation=1)


async def assert_unauthorized(options: berth.ConnectOptions) -> None:
    with pytest.raises(AuthenticationError):
        await berth.connect(options)


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def start(config: str = "") -> Broker:
        broker = Broker(tmp_path, config)
        request.addfinalizer(broker.stop)
        return broker

    return start


async def test_plain_connection_by_url_address_and_options(start: Any) -> None:
    broker = start()
    await assert_connects(broker.url)
    await assert_connects(f"127.0.0.1:{broker.port}")
    await assert_connects(berth.ConnectOptions([broker.url], name="me"))
    bus = await berth.connect(broker.url)
    await bus.close()
    await bus.close()
    assert bus.is_closed


async def test_userinfo_in_url_replaces_other_credentials(start: Any) -> None:
    seed, pair = key()
    silent_bob = "{ user: bob, password: b, permissions: { publish: nothing } }"
    nkey = f"{{ nkey: {pair.public_key.decode()} }}"
    broker = start(f"authorization {{ users: [ {{ user: ann, password: a }}, {silent_bob}, {nkey} ] }}")
    url = broker.url.replace("//", "//ann:a@")
    bob = berth.UserPassword("bob", "b")
    for auth in (None, berth.Token("t"), bob, berth.UserPassword("bob", "wrong"), berth.NkeySeed(seed)):
        await assert_connects(berth.ConnectOptions(url, auth=auth))
        await assert_connects(berth.ConnectOptions([broker.url, url], auth=auth))
    # Rejected credentials in the URL are not replaced by valid ones.
    await assert_unauthorized(berth.ConnectOptions(broker.url.replace("//", "//ann:wrong@"), auth=bob))
    with pytest.raises(ConfigurationError, match="different credentials"):
        await berth.connect(berth.ConnectOptions([url, broker.url.replace("//", "//bob:b@")]))


async def test_configured_inbox_prefix_satisfies_permissions(start: Any) -> None:
    permissions = 'publish: ["runtime.host.>"], subscribe: ["_MINE.>", "runtime.operator.heartbeat.>"]'
    users = f"{{ user: ann, password: p, permissions: {{ {permissions} }} }}, {{ user: host, password: p }}"
    broker = start(f"authorization {{ users: [ {users} ] }}")
    auth = berth.UserPassword("ann", "p")
    async with ServedHost(broker.url.replace("//", "//host:p@")) as host:
        options = berth.ConnectOptions(broker.url, auth=auth, inbox_prefix="_MINE")
        async with berth.connect(options) as bus:
            client = berth.HostClient(bus, host.id)

            async def poll() -> object | None:
                try:
                    return await client.heartbeat()
                except berth.NoRespondersError:
                    return None

            await eventually("the host replies", poll)


async def test_token(start: Any) -> None:
    broker = start("authorization { token: s3cret }")
    await assert_connects(berth.ConnectOptions(broker.url, auth=berth.Token("s3cret")))
    await assert_connects(broker.url.replace("//", "//s3cret@"))
    await assert_unauthorized(berth.ConnectOptions(broker.url, auth=berth.Token("wrong")))
    await assert_unauthorized(berth.ConnectOptions(broker.url))


async def test_user_and_password(start: Any) -> None:
    broker = start('authorization { users: [ { user: ann, password: "p@ss" } ] }')
    await assert_connects(berth.ConnectOptions(broker.url, auth=berth.UserPassword("ann", "p@ss")))
    await assert_connects(broker.url.replace("//", "//ann:p%40ss@"))
    await assert_unauthorized(berth.ConnectOptions(broker.url, auth=berth.UserPassword("ann", "wrong")))


def key(prefix: int = nkeys.PREFIX_BYTE_USER) -> tuple[str, Any]:
    seed = nkeys.encode_seed(nkeys.nacl.signing.SigningKey.generate().encode(), prefix)
    return seed.decode(), nkeys.from_seed(bytearray(seed))


async def test_nkey(start: Any, tmp_path: Path) -> None:
    (seed, pair), (other, _) = key(), key()
    broker = start(f"authorization {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}")
    await assert_connects(berth.ConnectOptions(broker.url, auth=berth.NkeySeed(seed)))
    file = tmp_path / "seed.nk"
    file.write_text(f"{seed}\n")
    await assert_connects(berth.ConnectOptions(broker.url, auth=berth.NkeySeedFile(file)))
    await assert_unauthorized(berth.ConnectOptions(broker.url, auth=berth.NkeySeed(other)))
    file.write_text("not a seed")
    with pytest.raises(InvalidCredentialsError, match=r"invalid NATS credentials in .*seed\.nk"):
        await berth.connect(berth.ConnectOptions(broker.url, auth=berth.NkeySeedFile(file)))


async def test_credentials_file_is_rotated(start: Any, tmp_path: Path) -> None:
    operator, account, user = (
        key(prefix)[1]
        for prefix in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_USER)
    )
    # The nkeys library cannot encode an account seed. The account key is therefore generated as an operator
    # key, and `as_account` replaces the prefix of its public key.
    account_key = as_account(account)
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    account_jwt = jwt(
        operator,
        operator.public_key.decode(),
        account_key,
        {"limits": {**unlimited, "wildcards": True}},
        "account",
    )
    operator_jwt = jwt(operator, operator.public_key.decode(), operator.public_key.decode(), {}, "operator")
    broker = start(
        f"operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {account_key}: {account_jwt} }}"
    )
    claims = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
    file = tmp_path / "user.creds"
    options = berth.ConnectOptions(broker.url, auth=berth.CredentialsFile(file))
    valid = credentials(jwt(account, account_key, user.public_key.decode(), claims, "user"), user)
    rejected = credentials(jwt(operator, as_account(operator), user.public_key.decode(), claims, "user"), user)
    file.write_text(valid)
    await assert_connects(options)
    file.write_text(rejected)
    await assert_unauthorized(options)
    # Files are read again for each connection, so an open bus reconnects with the new content.
    file.write_text(valid)
    async with berth.connect(options) as bus:
        file.write_text(rejected)
        broker.stop()
        broker.start()
        file.write_text(valid)
        await eventually("the bus has reconnected", lambda: true_or_none(bus.connection_state.generation == 2))
    file.write_text("not a credentials file")
    with pytest.raises(InvalidCredentialsError):
        await berth.connect(options)
    file.unlink()
    with pytest.raises(UnreadableFileError) as error:
        await berth.connect(options, retry_on_failed_connect=True)
    assert isinstance(error.value.__cause__, FileNotFoundError)


def as_account(pair: Any) -> str:
    raw = bytearray(bytes(pair._keys.verify_key))
    raw.insert(0, nkeys.PREFIX_BYTE_ACCOUNT)
    raw.extend(nkeys.crc16(raw).to_bytes(2, "little"))
    return base64.b32encode(raw).decode()


def jwt(signer: Any, issuer: str, subject: str, nats: dict[str, Any], kind: str) -> str:
    def encode(part: object) -> str:
        raw = part if isinstance(part, bytes) else json.dumps(part).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    claims = {
        "jti": "test",
        "iat": 1_700_000_000,
        "name": "test",
        "nats": {**nats, "type": kind, "version": 2},
        "iss": issuer,
        "sub": subject,
    }
    signed = f"{encode({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{encode(claims)}"
    return f"{signed}.{encode(signer.sign(signed.encode()))}"


def credentials(user_jwt: str, user: Any) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        "************************* IMPORTANT *************************\nKeep this file secret.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


async def true_or_none(condition: bool) -> bool | None:
    return condition or None


class Certificates:
    """A CA with certificates for a server on the loopback interface and for a client."""

    def __init__(self, directory: Path) -> None:
        authority, other = trustme.CA(), trustme.CA()
        self.ca, self.other_ca = directory / "ca.pem", directory / "other.pem"
        authority.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other_ca)
        for name, cert in (
            ("server", authority.issue_cert("127.0.0.1", "localhost")),
            ("client", authority.issue_cert("client")),
        ):
            cert.private_key_pem.write_to_path(directory / f"{name}.key")
            cert.cert_chain_pems[0].write_to_path(directory / f"{name}.pem")
        self.client_cert, self.client_key = directory / "client.pem", directory / "client.key"
        self._directory = directory

    def config(self, *, verify: bool = False, first: bool = False) -> str:
        at = self._directory
        return (
            f'tls {{ cert_file: "{at}/server.pem", key_file: "{at}/server.key", ca_file: "{self.ca}", '
            f"verify: {str(verify).lower()}, handshake_first: {str(first).lower()} }}"
        )


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def test_tls(start: Any, certificates: Certificates) -> None:
    broker = start(certificates.config())
    url = f"tls://127.0.0.1:{broker.port}"
    await assert_connects(berth.ConnectOptions(url, tls_ca_file=certificates.ca))
    await assert_connects(berth.ConnectOptions(broker.url, tls_ca_file=certificates.ca, tls_required=True))
    for untrusting in (berth.ConnectOptions(url, tls_ca_file=certificates.other_ca), berth.ConnectOptions(url)):
        with pytest.raises(UnreachableError) as error:
            await berth.connect(untrusting)
        assert isinstance(error.value.__cause__, ssl.SSLError)
    with pytest.raises(InvalidCredentialsError, match=r"client\.key"):
        await berth.connect(berth.ConnectOptions(url, tls_ca_file=certificates.client_key))


async def test_tls_first(start: Any, certificates: Certificates) -> None:
    broker = start(certificates.config(first=True))
    await assert_connects(berth.ConnectOptions(broker.url, tls_ca_file=certificates.ca, tls_first=True))


async def test_mutual_tls(start: Any, certificates: Certificates) -> None:
    broker = start(certificates.config(verify=True))
    with pytest.raises(UnreachableError):
        await berth.connect(berth.ConnectOptions(broker.url, tls_ca_file=certificates.ca))
    options = berth.ConnectOptions(
        broker.url,
        tls_ca_file=certificates.ca,
        tls_cert_file=certificates.client_cert,
        tls_key_file=certificates.client_key,
    )
    await assert_connects(options)
    with pytest.raises(ConfigurationError):
        await berth.connect(berth.ConnectOptions(broker.url, tls_cert_file=certificates.client_cert))


@pytest.mark.parametrize(
    "options",
    [
        berth.ConnectOptions("tls://127.0.0.1", auth=berth.Token("hunter2")),
        berth.ConnectOptions("127.0.0.1", tls_required=True, auth=berth.UserPassword("ann", "hunter2")),
        berth.ConnectOptions("127.0.0.1", tls_required=True),
    ],
)
async def test_sends_nothing_to_broker_without_required_tls(
    options: berth.ConnectOptions,
) -> None:
    received = b""

    async def plaintext_broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        writer.write(b'INFO {"server_id":"x","version":"2","headers":true,"max_payload":1048576}\r\n')
        received += await reader.read(100_000)
        writer.close()

    server = await asyncio.start_server(plaintext_broker, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    servers = f"{options.server_list()[0]}:{port}"
    async with server:
        with pytest.raises(UnreachableError):
            await berth.connect(
                berth.ConnectOptions(servers, auth=options.auth, tls_required=options.tls_required)
            )
    assert received == b""


async def test_fails_over_between_servers(start: Any) -> None:
    first, second = start(), start()
    first.stop()
    options = berth.ConnectOptions(f"{first.url},{second.url}")
    await assert_connects(options)
    # Clients of a stopped server reconnect to the other server.
    async with ServedHost(options) as host, berth.connect(options) as bus:
        client = berth.HostClient(bus, host.id, berth.Timeouts(heartbeat_s=1))

        async def poll() -> object | None:
            try:
                return await client.heartbeat()
            except berth.ClientError:
                return None

        await eventually("the host replies", poll)
        first.start()
        second.stop()
        await eventually("the host and the bus have reconnected to the other server", poll)


async def test_reports_unreachable_broker(start: Any) -> None:
    broker = start()
    broker.stop()
    with pytest.raises(UnreachableError) as error:
        await berth.connect(broker.url.replace("//", "//ann:secret@"))
    assert isinstance(error.value.__cause__, OSError)
    assert "secret" not in repr(error.value) + str(error.value)


async def test_retries_after_authentication_failure(start: Any, tmp_path: Path) -> None:
    # The client library itself would close permanently.
    broker = start("authorization { token: before }")
    async with berth.connect(berth.ConnectOptions(broker.url, auth=berth.Token("before"))) as bus:
        config = broker._config.read_text()
        broker.stop()
        broker._config.write_text(config.replace("before", "after"))
        broker.start()
        await eventually("the bus is disconnected", lambda: true_or_none(not bus.connection_state.connected))
        broker.stop()
        broker._config.write_text(config)
        broker.start()
        await eventually(
            "the bus has reconnected",
            lambda: true_or_none(bus.connection_state == berth.ConnectionState(connected=True, generation=2)),
        )


def test_parses_credentials_in_address() -> None:
    servers, auth = parse_servers(
        berth.ConnectOptions("nats://ann:p%40ss%2@a:1, b,tls://[::1]:5").server_list()
    )
    assert servers == [Server("nats", "a", 1), Server("nats", "b", 4222), Server("tls", "::1", 5)]
    assert [server.url for server in servers] == ["nats://a:1", "nats://b:4222", "tls://[::1]:5"]
    assert auth == berth.UserPassword("ann", "p@ss%2")
    assert parse_servers(["tok@a"])[1] == berth.Token("tok")


@pytest.mark.parametrize(
    "address", ["http://ann:hunter2@a", "nats://", "nats://hunter2@", "a b", "nats://a:hunter2"]
)
def test_rejects_invalid_address_without_its_secret(address: str) -> None:
    with pytest.raises(InvalidAddressError) as error:
        parse_servers([address])
    assert error.value.__cause__ is None
    if "@" in address:
        assert "hunter2" not in str(error.value)


async def test_rejects_empty_server_list() -> None:
    with pytest.raises(NoServersError):
        await berth.connect(" , ")
    assert issubclass(NoServersError, ConnectError)
    assert issubclass(ConnectError, berth.BerthError)


def test_repr_of_options_hides_secrets() -> None:
    options = berth.ConnectOptions(
        "nats://bob:hunter3@a:4222,hunter4@b", auth=berth.UserPassword("ann", "hunter2"), tls_required=True
    )
    text = f"{options!r} {berth.Token('hunter5')!r} {berth.NkeySeed('hunter6')!r}"
    assert "hunter" not in text
    assert text.startswith(
        "ConnectOptions('nats://***@a:4222,***@b', auth=UserPassword(user='ann'), tls_required="
    )


def test_backoff_starts_at_zero_and_is_bounded() -> None:
    assert delay_s(1) == 0
    assert all(0 < delay_s(attempt) <= MAX_DELAY_S for attempt in range(2, 2000))
    assert delay_s(2000) >= MAX_DELAY_S / 2
