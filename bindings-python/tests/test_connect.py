"""Each way to reach and convince a broker, on a nats-server that is configured for it."""

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
from berth.bus._keeper import MAX_DELAY_S, delay_s
from berth.errors import (
    BadAddress,
    BadCredentials,
    ConnectError,
    CredentialsRefused,
    HalfAPair,
    NoServer,
    Unreachable,
    UnreadableFile,
)
from support import Broker, Served, eventually


async def works(options: berth.ConnectOptions | str) -> None:
    """A message goes there and back."""
    async with berth.connect(options) as bus:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        await bus.subscribe("there", lambda delivery: heard.put_nowait(delivery.payload))
        await bus.publish("there", b"and back")
        async with asyncio.timeout(10):
            assert await heard.get() == b"and back"
        assert bus.link == berth.Link(connected=True, connects=1)


async def is_refused(options: berth.ConnectOptions) -> None:
    with pytest.raises(CredentialsRefused):
        await berth.connect(options)


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    def start(config: str = "") -> Broker:
        broker = Broker(tmp_path, config)
        request.addfinalizer(broker.stop)
        return broker

    return start


async def test_plain_and_by_the_url(start: Any) -> None:
    broker = start()
    await works(broker.url)
    await works(f"127.0.0.1:{broker.port}")
    await works(berth.ConnectOptions([broker.url], name="me"))
    bus = await berth.connect(broker.url)
    await bus.close()
    await bus.close()
    assert bus.is_closed


async def test_answers_come_where_permissions_want_them(start: Any) -> None:
    permissions = 'publish: ["runtime.host.>"], subscribe: ["_MINE.>", "runtime.operator.heartbeat.>"]'
    users = f"{{ user: ann, password: p, permissions: {{ {permissions} }} }}, {{ user: host, password: p }}"
    broker = start(f"authorization {{ users: [ {users} ] }}")
    auth = berth.UserPassword("ann", "p")
    async with Served(broker.url.replace("//", "//host:p@")) as host:
        options = berth.ConnectOptions(broker.url, auth=auth, inbox_prefix="_MINE")
        async with berth.connect(options) as bus:
            client = berth.HostClient(bus, host.id)

            async def look() -> object | None:
                try:
                    return await client.heartbeat()
                except berth.NoResponders:
                    return None

            await eventually("the host answers", look)


async def test_token(start: Any) -> None:
    broker = start("authorization { token: s3cret }")
    await works(berth.ConnectOptions(broker.url, auth=berth.Token("s3cret")))
    await works(broker.url.replace("//", "//s3cret@"))
    await is_refused(berth.ConnectOptions(broker.url, auth=berth.Token("wrong")))
    await is_refused(berth.ConnectOptions(broker.url))


async def test_user_and_password(start: Any) -> None:
    broker = start('authorization { users: [ { user: ann, password: "p@ss" } ] }')
    await works(berth.ConnectOptions(broker.url, auth=berth.UserPassword("ann", "p@ss")))
    await works(broker.url.replace("//", "//ann:p%40ss@"))
    await is_refused(berth.ConnectOptions(broker.url, auth=berth.UserPassword("ann", "wrong")))


def key(prefix: int = nkeys.PREFIX_BYTE_USER) -> tuple[str, Any]:
    seed = nkeys.encode_seed(nkeys.nacl.signing.SigningKey.generate().encode(), prefix)
    return seed.decode(), nkeys.from_seed(bytearray(seed))


async def test_nkey(start: Any, tmp_path: Path) -> None:
    (seed, pair), (other, _) = key(), key()
    broker = start(f"authorization {{ users: [ {{ nkey: {pair.public_key.decode()} }} ] }}")
    await works(berth.ConnectOptions(broker.url, auth=berth.NkeySeed(seed)))
    file = tmp_path / "seed.nk"
    file.write_text(f"{seed}\n")
    await works(berth.ConnectOptions(broker.url, auth=berth.NkeySeedFile(file)))
    await is_refused(berth.ConnectOptions(broker.url, auth=berth.NkeySeed(other)))
    file.write_text("no seed")
    with pytest.raises(BadCredentials, match=r"seed\.nk is not usable"):
        await berth.connect(berth.ConnectOptions(broker.url, auth=berth.NkeySeedFile(file)))


async def test_credentials_file_and_its_rotation(start: Any, tmp_path: Path) -> None:
    operator, account, user = (
        key(prefix)[1]
        for prefix in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_USER)
    )
    # The library encodes no seed of an account; its key pair is the same with another prefix.
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
    good = credentials(jwt(account, account_key, user.public_key.decode(), claims, "user"), user)
    bad = credentials(jwt(operator, as_account(operator), user.public_key.decode(), claims, "user"), user)
    file.write_text(good)
    await works(options)
    file.write_text(bad)
    await is_refused(options)
    # Files are read again for each connection: a host that is up goes on with the new ones.
    file.write_text(good)
    async with berth.connect(options) as bus:
        file.write_text(bad)
        broker.stop()
        broker.start()
        file.write_text(good)
        await eventually("it is back", lambda: found(bus.link.connects == 2))
    file.write_text("nothing of the kind")
    with pytest.raises(BadCredentials):
        await berth.connect(options)
    file.unlink()
    with pytest.raises(UnreadableFile) as unreadable:
        await berth.connect(options, eventually=True)
    assert isinstance(unreadable.value.__cause__, FileNotFoundError)


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
        "************************* IMPORTANT *************************\nKeep it to yourself.\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )


async def found(it: bool) -> bool | None:
    return it or None


class Files:
    """Certificates of an authority for a server on the loopback and for a client."""

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
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def test_tls(start: Any, files: Files) -> None:
    broker = start(files.config())
    url = f"tls://127.0.0.1:{broker.port}"
    await works(berth.ConnectOptions(url, tls_ca_file=files.ca))
    await works(berth.ConnectOptions(broker.url, tls_ca_file=files.ca, tls_required=True))
    for distrusting in (berth.ConnectOptions(url, tls_ca_file=files.other_ca), berth.ConnectOptions(url)):
        with pytest.raises(Unreachable) as untrusted:
            await berth.connect(distrusting)
        assert isinstance(untrusted.value.__cause__, ssl.SSLError)
    with pytest.raises(BadCredentials, match=r"client\.key"):
        await berth.connect(berth.ConnectOptions(url, tls_ca_file=files.client_key))


async def test_tls_first(start: Any, files: Files) -> None:
    broker = start(files.config(first=True))
    await works(berth.ConnectOptions(broker.url, tls_ca_file=files.ca, tls_first=True))


async def test_mutual_tls(start: Any, files: Files) -> None:
    broker = start(files.config(verify=True))
    with pytest.raises(Unreachable):
        await berth.connect(berth.ConnectOptions(broker.url, tls_ca_file=files.ca))
    known = berth.ConnectOptions(
        broker.url, tls_ca_file=files.ca, tls_cert_file=files.client_cert, tls_key_file=files.client_key
    )
    await works(known)
    with pytest.raises(HalfAPair):
        await berth.connect(berth.ConnectOptions(broker.url, tls_cert_file=files.client_cert))


@pytest.mark.parametrize(
    "options",
    [
        berth.ConnectOptions("tls://127.0.0.1", auth=berth.Token("hunter2")),
        berth.ConnectOptions("127.0.0.1", tls_required=True, auth=berth.UserPassword("ann", "hunter2")),
        berth.ConnectOptions("127.0.0.1", tls_required=True),
    ],
)
async def test_nothing_is_told_to_a_broker_without_tls_that_should_have_it(
    options: berth.ConnectOptions,
) -> None:
    said = b""

    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        writer.write(b'INFO {"server_id":"x","version":"2","headers":true,"max_payload":1048576}\r\n')
        said += await reader.read(100_000)
        writer.close()

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    servers = f"{options.server_list()[0]}:{port}"
    async with server:
        with pytest.raises(Unreachable):
            await berth.connect(
                berth.ConnectOptions(servers, auth=options.auth, tls_required=options.tls_required)
            )
    assert said == b""


async def test_several_servers(start: Any) -> None:
    first, second = start(), start()
    first.stop()
    options = berth.ConnectOptions(f"{first.url},{second.url}")
    await works(options)
    # Whoever is on a server that ends goes on with the other.
    async with Served(options) as host, berth.connect(options) as bus:
        client = berth.HostClient(bus, host.id, berth.Timeouts(heartbeat_s=1))

        async def look() -> object | None:
            try:
                return await client.heartbeat()
            except berth.ClientError:
                return None

        await eventually("the host is there", look)
        first.start()
        second.stop()
        await eventually("both are on the other server", look)


async def test_nobody_there(start: Any) -> None:
    broker = start()
    broker.stop()
    with pytest.raises(Unreachable) as unreachable:
        await berth.connect(broker.url.replace("//", "//ann:secret@"))
    assert isinstance(unreachable.value.__cause__, OSError)
    assert "secret" not in repr(unreachable.value) + str(unreachable.value)


async def test_a_server_that_turns_us_away_is_tried_again(start: Any, tmp_path: Path) -> None:
    # The library itself would close for good.
    broker = start("authorization { token: before }")
    async with berth.connect(berth.ConnectOptions(broker.url, auth=berth.Token("before"))) as bus:
        config = broker._config.read_text()
        broker.stop()
        broker._config.write_text(config.replace("before", "after"))
        broker.start()
        await eventually("it is gone", lambda: found(not bus.link.connected))
        broker.stop()
        broker._config.write_text(config)
        broker.start()
        await eventually("it is back", lambda: found(bus.link == berth.Link(connected=True, connects=2)))


def test_credentials_are_taken_out_of_the_address() -> None:
    servers, auth = parse_servers(
        berth.ConnectOptions("nats://ann:p%40ss%2@a:1, b,tls://[::1]:5").server_list()
    )
    assert servers == [Server("nats", "a", 1), Server("nats", "b", 4222), Server("tls", "::1", 5)]
    assert [server.url for server in servers] == ["nats://a:1", "nats://b:4222", "tls://[::1]:5"]
    assert auth == berth.UserPassword("ann", "p@ss%2")
    assert parse_servers(["tok@a"])[1] == berth.Token("tok")


@pytest.mark.parametrize(
    "bad", ["http://ann:hunter2@a", "nats://", "nats://hunter2@", "a b", "nats://a:hunter2"]
)
def test_what_is_no_address_is_refused_without_its_secret(bad: str) -> None:
    with pytest.raises(BadAddress) as refused:
        parse_servers([bad])
    assert refused.value.__cause__ is None
    if "@" in bad:
        assert "hunter2" not in str(refused.value)


async def test_no_server_is_named() -> None:
    with pytest.raises(NoServer):
        await berth.connect(" , ")
    assert issubclass(NoServer, ConnectError)
    assert issubclass(ConnectError, berth.BerthError)


def test_options_show_no_secret() -> None:
    options = berth.ConnectOptions(
        "nats://bob:hunter3@a:4222,hunter4@b", auth=berth.UserPassword("ann", "hunter2"), tls_required=True
    )
    text = f"{options!r} {berth.Token('hunter5')!r} {berth.NkeySeed('hunter6')!r}"
    assert "hunter" not in text
    assert text.startswith(
        "ConnectOptions('nats://***@a:4222,***@b', auth=UserPassword(user='ann'), tls_required="
    )


def test_attempts_come_soon_and_never_far_apart() -> None:
    assert delay_s(1) == 0
    assert all(0 < delay_s(attempt) <= MAX_DELAY_S for attempt in range(2, 2000))
    assert delay_s(2000) >= MAX_DELAY_S / 2
