"""One attempt to connect to one server: TLS, and who we are."""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nkeys
from nats import errors
from nats.aio.client import Client

from berth.bus._address import Server
from berth.connect import (
    Auth,
    ConnectOptions,
    CredentialsFile,
    NkeySeed,
    NkeySeedFile,
    Token,
    UserPassword,
)
from berth.errors import (
    BadCredentials,
    ConnectError,
    CredentialsRefused,
    HalfAPair,
    Unreachable,
    UnreadableFile,
)

PING_INTERVAL_S = 4
"""How often the connection is tested. A dead one is given up after three of them: well inside the 3 minutes of
HOST-RESIL-010, and before a second heartbeat is lost in it."""

MAX_OUTSTANDING_PINGS = 2


class NoTls(Exception):
    """The server speaks no TLS, and it has to."""


class _Client(Client):
    """A client that does not say who it is over a connection that should be encrypted and is not.

    The library takes the server's word for whether there is TLS. This is the last moment before credentials
    leave; if the library ever stops calling it, `_check_library` says so.
    """

    tls_wanted = False

    def _connect_command(self) -> bytes:
        if (
            self.tls_wanted
            and not self._server_info.get("tls_required")
            and not self.options["tls_handshake_first"]
        ):
            raise NoTls
        return super()._connect_command()


def _check_library() -> None:
    if not hasattr(Client, "_connect_command") or not hasattr(Client(), "_server_info"):
        raise ImportError("with this release of nats-py, credentials could not be kept from leaving in clear")


_check_library()


async def open_client(
    server: Server, options: ConnectOptions, auth: Auth | None, on_error: Callable[[Exception], None]
) -> Client:
    """A client that is connected. It does not reconnect by itself, and `on_error` is told what befalls it.

    Raises `ConnectError`.
    """
    heard: list[Exception] = []

    def told(error: Exception) -> None:
        heard.append(error)
        on_error(error)

    client = _Client()
    client.tls_wanted = options.tls_required or options.tls_first or server.scheme == "tls"
    try:
        arguments = _arguments(server, options, auth, told)
        async with asyncio.timeout(options.connect_timeout_s):
            await client.connect(**arguments)
        if not client.is_connected:  # the server hung up on us after its greeting
            raise client.last_error or errors.UnexpectedEOF
    except ConnectError:
        raise
    except (OSError, errors.Error, TimeoutError, ssl.SSLError, NoTls) as error:
        await _give_up(client)
        if "authorization" in str(error).lower() or "authentication" in str(error).lower():
            raise CredentialsRefused(options.shown_servers()) from error
        # "No servers are left" is what the library says in the end; what they said comes before.
        causes = [cause for cause in [*heard, error] if not isinstance(cause, errors.NoServersError)]
        raise Unreachable(options.shown_servers()) from (causes[-1] if causes else error)
    except BaseException:
        await _give_up(client)
        raise
    return client


def check_files(options: ConnectOptions, auth: Auth | None) -> None:
    """Says at once what no waiting can mend. Raises `ConnectError`."""
    _tls(options)
    _credentials(auth)


async def _give_up(client: Client) -> None:
    try:
        async with asyncio.timeout(1):
            await client.close()
    except Exception:  # noqa: BLE001, S110  # it was never open, and nobody asks how it closed
        pass


def _arguments(
    server: Server, options: ConnectOptions, auth: Auth | None, on_error: Callable[[Exception], None]
) -> dict[str, Any]:
    async def told(error: Exception) -> None:
        on_error(error)

    arguments: dict[str, Any] = {
        "servers": [server.url],
        "name": options.name,
        "error_cb": told,
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
        "connect_timeout": math.ceil(options.connect_timeout_s),
        "ping_interval": PING_INTERVAL_S,
        "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
        "tls": _tls(options),
        "tls_hostname": server.tls_name,
        "tls_handshake_first": options.tls_first,
    }
    return arguments | _credentials(auth)


def _tls(options: ConnectOptions) -> ssl.SSLContext:
    """Always there: the server decides whether TLS is spoken, and then it is verified."""
    if (options.tls_cert_file is None) != (options.tls_key_file is None):
        raise HalfAPair
    ca, cert, key = options.tls_ca_file, options.tls_cert_file, options.tls_key_file
    for path in (ca, cert, key):
        if path is not None:
            _read(path)
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise BadCredentials(" or ".join(str(path) for path in (ca, cert, key) if path is not None)) from error
    return context


def _credentials(auth: Auth | None) -> dict[str, Any]:
    match auth:
        case None:
            return {}
        case Token(token):
            return {"token": token}
        case UserPassword(user, password):
            return {"user": user, "password": password}
        case NkeySeed(seed):
            return _nkey(seed, "the nkey seed")
        case NkeySeedFile(path):
            return _nkey(_read(path), str(path))
        case CredentialsFile(path):
            jwt, seed = _parts(path)
            _check_seed(seed, str(path))
            return {"user_jwt_cb": lambda: jwt.encode(), "signature_cb": _signer(seed)}


def _nkey(seed: str, named: str) -> dict[str, Any]:
    seed = seed.strip()
    _check_seed(seed, named)
    return {"nkeys_seed_str": seed}


def _check_seed(seed: str, named: str) -> None:
    try:
        nkeys.from_seed(bytearray(seed.encode())).sign(b"can it sign?")
    except Exception:  # noqa: BLE001  # whatever it says, and it may quote the seed
        raise BadCredentials(named) from None


def _signer(seed: str) -> Callable[[str], bytes]:
    def sign(nonce: str) -> bytes:
        return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))

    return sign


def _parts(path: str | Path) -> tuple[str, str]:
    """The JWT and the seed: what stands between the two pairs of lines that begin with `---`."""
    parts = []
    within = False
    for line in map(str.strip, _read(path).splitlines()):
        if line.startswith("---"):
            within = not within
        elif within and line:
            parts.append(line)
    if len(parts) != 2:
        raise BadCredentials(str(path))
    return parts[0], parts[1]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(str(path)) from error
