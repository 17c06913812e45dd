"""One connection attempt to one server, with TLS and credentials."""

from __future__ import annotations

import asyncio
import base64
import math
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nkeys
from nats import errors
from nats.aio.client import Client

from berth import _subject
from berth.bus._address import Server
from berth.connect_options import (
    Auth,
    ConnectOptions,
    CredentialsFile,
    NkeySeed,
    NkeySeedFile,
    Token,
    UserPassword,
)
from berth.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    InvalidCredentialsError,
    UnreachableError,
    UnreadableFileError,
    UntrustedServerError,
)

PING_INTERVAL_S = 4
"""Interval of keep-alive pings. A dead connection is detected after three intervals: well within the 3 minutes
of HOST-RESIL-010, and before a second heartbeat is lost on the connection."""

MAX_OUTSTANDING_PINGS = 2
"""Number of unanswered pings that the client library tolerates."""


class TlsUnavailableError(Exception):
    """TLS is required, but the server does not offer it."""


class EncryptedKeyError(Exception):
    """The key of the client certificate needs a passphrase."""


class _Client(Client):
    """A client that sends no credentials over a plaintext connection if TLS is required.

    The client library relies on the server's INFO to decide about TLS. The second hook below is the last code
    that runs before credentials are sent; `_check_library` fails if a later release of the library lacks it.
    """

    require_tls = False

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        # A server with optional TLS: the library would not use it.
        if initial_connection and self.require_tls and info.get("tls_available"):
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)

    def _connect_command(self) -> bytes:
        if (
            self.require_tls
            and not self._server_info.get("tls_required")
            and not self.options["tls_handshake_first"]
        ):
            raise TlsUnavailableError("TLS is required, but the server does not offer it")
        return super()._connect_command()


def _check_library() -> None:
    hooks = ("_connect_command", "_process_info")
    if not all(hasattr(Client, hook) for hook in hooks) or not hasattr(Client(), "_server_info"):
        raise ImportError("unsupported nats-py release: credentials could be sent in plaintext")


_check_library()


def combine_credentials(auth: Auth | None, userinfo: Auth | None) -> list[Auth]:
    """Returns the credentials to send: `userinfo` from a URL replaces `auth`, but not a credentials file."""
    if userinfo is None or isinstance(auth, CredentialsFile):
        return [each for each in (userinfo, auth) if each is not None]
    return [userinfo]


async def dial(
    server: Server,
    options: ConnectOptions,
    credentials: Sequence[Auth],
    on_error: Callable[[Exception], None],
) -> Client:
    """Returns a connected client, which does not reconnect and reports later errors to `on_error`.

    Raises `ConnectError`.
    """
    reported: list[Exception] = []

    def report(error: Exception) -> None:
        reported.append(error)
        on_error(error)

    _validate(options)
    client = _Client()
    client.require_tls = options.requires_tls() or server.scheme == "tls"
    try:
        arguments = _arguments(server, options, credentials, report)
        async with asyncio.timeout(options.connect_timeout_s):
            await client.connect(**arguments)
        if not client.is_connected:  # the server closed the connection after its INFO
            raise client.last_error or errors.UnexpectedEOF
        if not isinstance(client.max_payload, int) or client.max_payload <= 0:
            raise errors.Error("the server announced an invalid maximum payload")
    except ConnectError:
        raise
    except Exception as error:
        # Of any kind: an invalid INFO causes errors such as `AttributeError` in the client library, and an
        # invalid host name causes a `UnicodeError`.
        await _discard(client)
        if "authorization" in str(error).lower() or "authentication" in str(error).lower():
            raise AuthenticationError(options.redacted_servers()) from error
        # The client library ends with "no servers available"; the errors reported before have the reason.
        causes = [cause for cause in [*reported, error] if not isinstance(cause, errors.NoServersError)]
        cause = causes[-1] if causes else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise UntrustedServerError(server.url, options.tls_ca_file) from cause
        raise UnreachableError(options.redacted_servers()) from cause
    except BaseException:
        await _discard(client)
        raise
    return client


def validate_files(options: ConnectOptions, credentials: Sequence[Auth]) -> None:
    """Reads all credentials and certificate files once, to fail early. Raises `ConnectError`."""
    _validate(options)
    _tls_context(options)
    for auth in credentials:
        _credentials(auth)


def _validate(options: ConnectOptions) -> None:
    """Raises `ConfigurationError` if an option cannot be used."""
    if not 0 < options.connect_timeout_s < math.inf:
        raise ConfigurationError("`connect_timeout_s` must be a positive number of seconds")
    if options.inbox_prefix is not None and not _subject.is_subject(options.inbox_prefix):
        raise ConfigurationError("`inbox_prefix` is not a valid subject")


async def _discard(client: Client) -> None:
    try:
        async with asyncio.timeout(1):
            await client.close()
    except Exception:  # noqa: BLE001, S110  # the client never connected, so the error has no consequence
        pass


def _arguments(
    server: Server,
    options: ConnectOptions,
    credentials: Sequence[Auth],
    on_error: Callable[[Exception], None],
) -> dict[str, Any]:
    async def report(error: Exception) -> None:
        on_error(error)

    arguments: dict[str, Any] = {
        "servers": [server.url],
        "name": options.name,
        "error_cb": report,
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0,
        "connect_timeout": math.ceil(options.connect_timeout_s),
        "ping_interval": PING_INTERVAL_S,
        "max_outstanding_pings": MAX_OUTSTANDING_PINGS,
        "tls": _tls_context(options),
        "tls_hostname": server.tls_name,
        "tls_handshake_first": options.tls_first,
    }
    for auth in credentials:
        arguments |= _credentials(auth)
    return arguments


def _tls_context(options: ConnectOptions) -> ssl.SSLContext:
    """Returns a verifying context even if TLS is optional, because the server decides whether TLS is used."""
    ca, cert, key = options.tls_ca_file, options.tls_cert_file, options.tls_key_file
    if (cert is None) != (key is None):
        raise ConfigurationError("`tls_cert_file` and `tls_key_file` must be set together")
    for path in (ca, cert, key):
        if path is not None and (text := _read(path)).count("-----BEGIN ") != text.count("-----END "):
            # OpenSSL would use the certificates before the one that is cut off.
            raise InvalidCredentialsError(str(path)) from ValueError("the file is cut off")
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError) as error:
        raise InvalidCredentialsError(str(ca)) from error
    # A file may contain a revocation list only.
    if ca is not None and context.cert_store_stats()["x509"] == 0:
        raise InvalidCredentialsError(str(ca)) from ValueError("the file contains no certificate")
    if cert is not None and key is not None:
        try:
            context.load_cert_chain(cert, key, _no_passphrase)
        except (ssl.SSLError, OSError, EncryptedKeyError) as error:
            raise InvalidCredentialsError(f"{cert} or {key}") from error
    return context


def _no_passphrase() -> str:
    """Fails; without this callback, OpenSSL would ask for the passphrase on the terminal."""
    raise EncryptedKeyError("the key is encrypted")


def _credentials(auth: Auth) -> dict[str, Any]:
    match auth:
        case Token(token):
            return {"token": token}
        case UserPassword(user, password):
            return {"user": user, "password": password}
        case NkeySeed(seed):
            return _nkey(seed, "the nkey seed")
        case NkeySeedFile(path):
            return _nkey(_read(path), str(path))
        case CredentialsFile(path):
            jwt, seed = _parse_credentials(path)
            _check_seed(seed, str(path))
            return {"user_jwt_cb": lambda: jwt.encode(), "signature_cb": _signer(seed)}


def _nkey(seed: str, source: str) -> dict[str, Any]:
    seed = seed.strip()
    _check_seed(seed, source)
    return {"nkeys_seed_str": seed}


def _check_seed(seed: str, source: str) -> None:
    try:
        nkeys.from_seed(bytearray(seed.encode())).sign(b"test")
    except Exception:  # noqa: BLE001  # any error; its text may quote the seed
        raise InvalidCredentialsError(source) from None


def _signer(seed: str) -> Callable[[str], bytes]:
    def sign(nonce: str) -> bytes:
        return base64.b64encode(nkeys.from_seed(bytearray(seed.encode())).sign(nonce.encode()))

    return sign


def _parse_credentials(path: str | Path) -> tuple[str, str]:
    """Returns the JWT and the seed, each enclosed by a pair of lines that begin with `---`."""
    blocks = []
    in_block = False
    for line in map(str.strip, _read(path).splitlines()):
        if line.startswith("---"):
            in_block = not in_block
        elif in_block and line:
            blocks.append(line)
    if len(blocks) != 2:
        raise InvalidCredentialsError(str(path)) from ValueError("expected a JWT and a seed")
    return blocks[0], blocks[1]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(str(path)) from error
