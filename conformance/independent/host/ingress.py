"""The HTTP/1.1 server that passes requests to workloads by host name."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

import http1
from guest import Request, Response
from routes import Handle, Routes, Unavailable
from violation import violates

log = logging.getLogger("ingress")

HANDLER_S = 30.0  # HOST-HTTP-016: until a handler has responded
IDLE_S = 60.0  # a connection without a request
DRAIN_BYTES = 1024 * 1024  # unread rest of a request body before the connection is closed instead
DRAIN_S = 2.0
MAX_CONNECTIONS = 1000  # beyond it, a connection gets 503

# Headers that concern one connection only, and headers that the server writes itself.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
     "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
_COMMON_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/@]+)(?::[0-9]*)?", re.ASCII)


class NotFound(Exception):  # noqa: N818 - an outcome for the client
    """A request that gets 404 before it is routed."""


class BadRequest(Exception):  # noqa: N818 - an outcome for the client
    """A request that gets 400."""


class _Body:
    """The body of a request, which the guest may read or not."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: http1.Head) -> None:
        length = http1.body_length(head)
        self._parts = http1.read_body(reader, length or 0)
        self._writer = writer
        self._repair = violates("body-decoded-as-utf8")
        self._expects_continue = head.value("expect").lower() == "100-continue"
        self.ended = not length
        self._interrupted = False

    async def parts(self) -> AsyncIterator[bytes]:
        """Yields the parts of the body."""
        if self._expects_continue and not self.ended:
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects_continue = False
        try:
            async for part in self._parts:
                yield part.decode("utf-8", "replace").encode() if self._repair else part
        except (asyncio.CancelledError, OSError, EOFError, http1.HttpError):
            self._interrupted = True
            raise
        self.ended = True

    async def drain(self) -> bool:
        """Reads the rest of the body; returns False if the connection must be closed instead."""
        if self.ended:
            return True
        if self._expects_continue or self._interrupted:
            return False
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                async for part in self._parts:
                    left -= len(part)
                    if left < 0:
                        return False
        except (OSError, EOFError, http1.HttpError):
            return False
        return True


class Ingress:
    """The server; `port` is the port on which it listens."""

    def __init__(self, routes: Routes) -> None:
        """`routes` is read for each request."""
        self._routes = routes
        self._server: asyncio.Server | None = None
        self._workers = asyncio.Semaphore(8)
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def listen(self, address: str, port: int) -> None:
        """Binds the address; port 0 selects a free port."""
        self._server = await asyncio.start_server(
            self._accept, address, port, limit=http1.MAX_HEAD_BYTES, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Stops listening."""
        if self._server:
            self._server.close()

    async def close_connections(self) -> None:
        """Closes all connections."""
        if violates("open-connection-delays-exit") and self._connections:
            await asyncio.wait(self._connections)
        for task in self._connections:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections.add(task)
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                writer.write(_encode(_error(503), keep=False, with_body=True))
            else:
                await self._serve(reader, writer)
        except (OSError, EOFError, http1.HttpError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client is gone, or the host ends
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keep = True
        connected_at = time.monotonic()
        while keep:
            method = ""
            body = None
            try:
                async with asyncio.timeout(IDLE_S):
                    head = await http1.read_head(reader)
                method, target, host, keep = parse_request(head, self.port)
                body = _Body(reader, writer, head)
                request = Request(
                    method, _distort_target(target), forwarded(head), _forwarded_body(method, head, body)
                )
                response = await self._respond(host, connected_at, request)
            except NotFound:
                response, keep = _error(404), False
            except (BadRequest, http1.HttpError):
                response, keep = _error(400), False
            if body is not None and not violates("unread-body-breaks-connection"):
                keep = await body.drain() and keep
            writer.write(_encode(response, keep=keep, with_body=method != "HEAD"))
            await writer.drain()

    async def _respond(self, host: str, connected_at: float, request: Request) -> Response:
        handle = self._routes.choose(host, connected_at)
        if violates("uncommon-method-501") and request.method not in _COMMON_METHODS:
            return _error(501)
        if handle is None:  # HOST-HTTP-002
            return _error(404)
        if violates("open-connection-delays-stop"):
            request = replace(request, connection=asyncio.current_task())
        if violates("eight-spinners-block-ingress"):
            async with self._workers:
                return await self._call(handle, request)
        return await self._call(handle, request)

    async def _call(self, handle: Handle, request: Request) -> Response:
        try:
            async with asyncio.timeout(HANDLER_S):
                return await handle(request)
        except TimeoutError:
            return _error(504)
        except Unavailable:
            return _error(503)
        except (EOFError, http1.HttpError):
            raise
        except Exception:  # a defect of a stand-in guest
            log.exception("cannot handle a request")
            return _error(500)


def parse_request(head: http1.Head, own_port: int) -> tuple[str, str, str, bool]:
    """Returns method, path with query, host name without port, and whether to keep the connection."""
    parts = head.line.split(" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest
    method, target, version = parts
    hosts = head.values("host")
    if len(hosts) > 1:  # HOST-HTTP-003
        raise BadRequest
    if target.lower().startswith(("http://", "https://")):
        try:
            url = urlsplit(target)
        except ValueError:
            raise BadRequest from None
        authority = hosts[0] if hosts and violates("absolute-url-ignored") else url.netloc
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    else:
        authority = hosts[0] if hosts else ""
        if not target.startswith("/") and target != "*":
            raise BadRequest
    if violates("http-1-0-without-host-404") and version == "HTTP/1.0" and not authority:
        raise NotFound
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise BadRequest
    host = match[1]
    if violates("only-own-port-removed") and not authority.endswith(f":{own_port}"):
        host = authority
    options = {option.strip().lower() for value in head.values("connection") for option in value.split(",")}
    keep = "close" not in options if version == "HTTP/1.1" else "keep-alive" in options
    return method, target, host, keep


def _distort_target(target: str) -> str:
    """Returns the path and the query as a violation passes them to the guest."""
    path, question, query = target.partition("?")
    if violates("path-percent-decoded"):
        path = unquote(path, "latin-1")
    if violates("double-slash-collapsed"):
        path = re.sub("/+", "/", path)
    if violates("empty-query-value-dropped"):
        query = "&".join(part for part in query.split("&") if part.partition("=")[2])
    return f"{path}{question}{query}"


async def _no_body() -> AsyncIterator[bytes]:
    return
    yield b""


def _forwarded_body(method: str, head: http1.Head, body: _Body) -> AsyncIterator[bytes]:
    is_lost = violates("delete-body-dropped") and method not in ("POST", "PUT", "PATCH")
    if violates("chunked-request-body-lost") and http1.body_length(head) == -1:
        is_lost = True
    return _no_body() if is_lost else body.parts()


def forwarded(head: http1.Head) -> http1.Headers:
    """HOST-HTTP-014: returns the headers of a request except those of the connection."""
    named = {option.strip().lower() for value in head.values("connection") for option in value.split(",")}
    return [(name, value) for name, value in head.headers if name.lower() not in _HOP_BY_HOP | named]


def _error(status: int) -> Response:
    return Response(f"{HTTPStatus(status).phrase}\n".encode(), status)


def _encode(response: Response, *, keep: bool, with_body: bool) -> bytes:
    status = HTTPStatus(response.status)
    lines = [f"HTTP/1.1 {response.status} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers]
    lines += [f"content-length: {len(response.body)}", f"connection: {'keep-alive' if keep else 'close'}"]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head + response.body if with_body else head
