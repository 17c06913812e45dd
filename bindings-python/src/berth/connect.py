"""How to reach and convince the brokers of a real deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

DEFAULT_SERVER = "nats://127.0.0.1:4222"
"""Where nats-server listens when nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that all clients share."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserPassword:
    """A user with a password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NkeySeed:
    """The seed of an nkey (`SU…`)."""

    seed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NkeySeedFile:
    """A file that holds the seed of an nkey."""

    path: str | Path


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """A file with a user JWT and the seed that signs for it, as `nsc` writes it."""

    path: str | Path


Auth: TypeAlias = Token | UserPassword | NkeySeed | NkeySeedFile | CredentialsFile
"""How the brokers know us."""


@dataclass(frozen=True, slots=True, repr=False)
class ConnectOptions:
    """How to reach the bus. Nothing is read or opened before a connection is made.

    Files of credentials, nkeys and certificates are read again for each connection, so that they can be
    rotated. `repr` shows no secret, also none that stands in a URL.
    """

    servers: str | Sequence[str] = DEFAULT_SERVER
    """Servers of one cluster, `nats://host:port` or `tls://host:port`; each may itself be a list separated by
    commas. `user:password@` or `token@` in the first one counts when `auth` is `None`."""
    name: str | None = None
    """The name under which the brokers list this connection."""
    auth: Auth | None = None
    """Who we are; `None` for not at all, or by certificate."""
    tls_ca_file: str | Path | None = None
    """A PEM file of the authorities to trust instead of those of the system."""
    tls_cert_file: str | Path | None = None
    """A PEM file with our certificate and its chain, for mutual TLS."""
    tls_key_file: str | Path | None = None
    """The PEM file with the key to `tls_cert_file`."""
    tls_required: bool = False
    """Refuse to talk to a broker without TLS. `tls://` in a URL does the same for that server."""
    tls_first: bool = False
    """Begin with TLS before the broker's greeting, for brokers with `handshake_first`."""
    inbox_prefix: str | None = None
    """What replies are addressed to, where permissions ask for another prefix than `_INBOX`."""
    connect_timeout_s: float = 5.0
    """How long one attempt to connect to one server may take, in seconds."""

    def server_list(self) -> list[str]:
        """The servers one by one, as they were given."""
        lists = [self.servers] if isinstance(self.servers, str) else self.servers
        named = (server.strip() for text in lists for server in text.split(","))
        return [server for server in named if server]

    def shown_servers(self) -> str:
        """The servers with everything between `//` and `@` hidden, fit for logs and errors."""
        return ",".join(map(without_userinfo, self.server_list()))

    def __repr__(self) -> str:
        shown = [f"{self.shown_servers()!r}"]
        defaults = ConnectOptions()
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "servers" and value != getattr(defaults, name):
                shown.append(f"{name}={value!r}")
        return f"ConnectOptions({', '.join(shown)})"


def without_userinfo(server: str) -> str:
    """One server with everything between `//` and `@` hidden."""
    scheme, separator, rest = server.rpartition("://")
    _, at, address = rest.rpartition("@")
    return f"{scheme}{separator}***@{address}" if at else server
