"""Options for the connection to the NATS brokers: servers, credentials and TLS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

DEFAULT_SERVER = "nats://127.0.0.1:4222"
"""Default address of nats-server."""


@dataclass(frozen=True, slots=True)
class Token:
    """Token that all clients share."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserPassword:
    """User name and password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NkeySeed:
    """Seed of an nkey (`SU…`)."""

    seed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NkeySeedFile:
    """File with the seed of an nkey."""

    path: str | Path


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """File with a user JWT and its signing seed, as written by `nsc`."""

    path: str | Path


Auth: TypeAlias = Token | UserPassword | NkeySeed | NkeySeedFile | CredentialsFile
"""Credentials for the brokers."""


@dataclass(frozen=True, slots=True, repr=False)
class ConnectOptions:
    """Options for the connection to the brokers.

    Files with credentials, nkeys and certificates are read when the connection is opened, and again at each
    reconnect, so that they can be rotated. `repr` shows no secrets, not even those in a URL.
    """

    servers: str | Sequence[str] = DEFAULT_SERVER
    """Servers of one cluster, `nats://host:port` or `tls://host:port`; each item may be a comma-separated list.
    `user:password@` or `token@` in a URL applies to all servers and replaces `auth`; only beside a
    `CredentialsFile`, both are sent, and the broker chooses."""
    name: str | None = None
    """Name of this connection in the broker's list of connections."""
    auth: Auth | None = None
    """Credentials; `None` for no credentials, or for authentication by client certificate."""
    tls_ca_file: str | Path | None = None
    """PEM file with the CA certificates to trust instead of the system roots."""
    tls_cert_file: str | Path | None = None
    """PEM file with the client certificate chain, for mutual TLS."""
    tls_key_file: str | Path | None = None
    """PEM file with the key of `tls_cert_file`."""
    tls_required: bool = False
    """Whether to reject a broker without TLS. `tls://` in any URL, `tls_first` and each of the files above have
    the same effect, for all servers, including those that a cluster advertises."""
    tls_first: bool = False
    """Whether to start the TLS handshake before the broker's INFO, for brokers with `handshake_first`."""
    inbox_prefix: str | None = None
    """Prefix of reply subjects, if the permissions require a prefix other than `_INBOX`."""
    connect_timeout_s: float = 5.0
    """Timeout of one connection attempt to one server, in seconds."""

    def server_list(self) -> list[str]:
        """Returns the servers as a flat list, with their userinfo."""
        lists = [self.servers] if isinstance(self.servers, str) else self.servers
        stripped = (server.strip() for text in lists for server in text.split(","))
        return [server for server in stripped if server]

    def requires_tls(self) -> bool:
        """Returns whether a broker without TLS is rejected, before credentials are sent."""
        files = (self.tls_ca_file, self.tls_cert_file, self.tls_key_file)
        has_tls_url = any(server.lower().startswith("tls://") for server in self.server_list())
        return self.tls_required or self.tls_first or has_tls_url or any(file is not None for file in files)

    def redacted_servers(self) -> str:
        """Returns the servers with their userinfo hidden, for logs and errors."""
        return ",".join(map(redact_userinfo, self.server_list()))

    def __repr__(self) -> str:
        shown = [f"{self.redacted_servers()!r}"]
        defaults = ConnectOptions()
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name != "servers" and value != getattr(defaults, name):
                shown.append(f"{name}={value!r}")
        return f"ConnectOptions({', '.join(shown)})"


def redact_userinfo(server: str) -> str:
    """Returns one server with the text between `//` and `@` hidden."""
    scheme, separator, rest = server.rpartition("://")
    _, at, address = rest.rpartition("@")
    return f"{scheme}{separator}***@{address}" if at else server
