"""The addresses of servers, with the credentials that may stand in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from berth.connect import Auth, Token, UserPassword, without_userinfo
from berth.errors import BadAddress, NoServer

_DEFAULT_PORT = 4222


@dataclass(frozen=True, slots=True)
class Server:
    """One server, without userinfo."""

    scheme: str
    host: str
    port: int
    tls_name: str | None = None
    """The name that its certificate has to be for, where that is not `host`."""

    @property
    def url(self) -> str:
        """What the client library is given."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_servers(servers: Sequence[str]) -> tuple[list[Server], Auth | None]:
    """The servers without userinfo, and the userinfo of the first."""
    if not servers:
        raise NoServer
    split = [_split(server) for server in servers]
    return [server for server, _ in split], split[0][1]


def _split(text: str) -> tuple[Server, Auth | None]:
    shown = without_userinfo(text)
    try:
        url = urlsplit(text if "://" in text else f"nats://{text}")
        port = url.port or _DEFAULT_PORT
    except ValueError:
        # Without its cause, which quotes the address with the secret in it.
        raise BadAddress(shown) from None
    fits = url.scheme in ("nats", "tls") and url.hostname and not (url.path.strip("/") or url.query)
    if not fits or any(char.isspace() for char in text):
        raise BadAddress(shown)
    return Server(url.scheme, url.hostname or "", port), _userinfo(url)


def _userinfo(url: SplitResult) -> Auth | None:
    if not url.username:
        return None
    if url.password is None:
        return Token(unquote(url.username))
    return UserPassword(unquote(url.username), unquote(url.password))
