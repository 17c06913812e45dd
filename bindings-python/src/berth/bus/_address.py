"""Server addresses and the credentials in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from berth.connect_options import Auth, Token, UserPassword, redact_userinfo
from berth.errors import ConfigurationError, InvalidAddressError, NoServersError

_DEFAULT_PORT = 4222


@dataclass(frozen=True, slots=True)
class Server:
    """Address of one server, without userinfo."""

    scheme: str
    host: str
    port: int
    tls_name: str | None = None
    """Name that the server certificate must match, if other than `host`."""

    @property
    def url(self) -> str:
        """The URL for the client library."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_servers(servers: Sequence[str]) -> tuple[list[Server], Auth | None]:
    """Returns the servers without userinfo, and the userinfo, which applies to all servers."""
    if not servers:
        raise NoServersError
    parsed = [_parse_server(server) for server in servers]
    userinfo = {auth for _, auth in parsed if auth is not None}
    if len(userinfo) > 1:
        raise ConfigurationError("the NATS URLs contain different credentials")
    return [server for server, _ in parsed], next(iter(userinfo), None)


def _parse_server(text: str) -> tuple[Server, Auth | None]:
    redacted = redact_userinfo(text)
    try:
        url = urlsplit(text if "://" in text else f"nats://{text}")
        port = url.port or _DEFAULT_PORT
    except ValueError:
        # The cause would quote the address including its secret.
        raise InvalidAddressError(redacted) from None
    valid = url.scheme in ("nats", "tls") and url.hostname and not (url.path.strip("/") or url.query)
    if not valid or any(char.isspace() for char in text):
        raise InvalidAddressError(redacted)
    return Server(url.scheme, url.hostname or "", port), _userinfo(url)


def _userinfo(url: SplitResult) -> Auth | None:
    if not url.username:
        return None
    if url.password is None:
        return Token(unquote(url.username))
    return UserPassword(unquote(url.username), unquote(url.password))
