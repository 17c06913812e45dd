"""HTTP/1.1 messages on streams, and a client for one request per connection."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from violation import violates

MAX_HEAD_BYTES = 64 * 1024  # request or status line and headers, as common servers allow
CHUNK_BYTES = 64 * 1024  # a read
MAX_INTERIM_RESPONSES = 8  # 1xx responses before the response

Headers = list[tuple[str, str]]


class HttpError(Exception):
    """A message that is not HTTP/1.1, or a body that ended early."""


@dataclass(frozen=True)
class Head:
    """The first line of a message and its headers."""

    line: str
    headers: Headers

    def values(self, name: str) -> list[str]:
        """Returns the values of all headers with a name."""
        return [value for key, value in self.headers if key.lower() == name]

    def value(self, name: str) -> str:
        """Returns the first value of a header, or an empty string."""
        return next(iter(self.values(name)), "")


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Reads a head; raises EOFError if the peer closes the connection first."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise HttpError("the head is too long") from None
    line, *fields = data[:-4].decode("latin-1").lstrip("\r\n").split("\r\n")
    headers = []
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError("malformed header")
        headers.append((name, value.strip(" \t")))
    return Head(line, headers)


def body_length(head: Head) -> int | None:
    """Returns the length of a body in bytes, -1 if it is chunked, or None if the head does not tell."""
    encodings = [value.lower() for value in head.values("transfer-encoding")]
    lengths = head.values("content-length")
    if encodings:
        if encodings != ["chunked"] or lengths:
            raise HttpError("unsupported or conflicting body length")
        return -1
    if not lengths:
        return None
    if len(set(lengths)) > 1 or not lengths[0].isascii() or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise HttpError("malformed Content-Length")
    return int(lengths[0])


async def read_body(reader: asyncio.StreamReader, length: int | None) -> AsyncIterator[bytes]:
    """Yields the parts of a body as they arrive; without a length, until the connection ends."""
    if length == -1:
        while size := await _chunk_size(reader):
            async for part in _read_exactly(reader, size):
                yield part
            await reader.readuntil(b"\r\n")
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers are ignored
    elif length is None:
        while part := await reader.read(CHUNK_BYTES):
            yield part
    else:
        async for part in _read_exactly(reader, length):
            yield part


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = (await reader.readuntil(b"\r\n")).split(b";")[0].strip()
    try:
        size = int(line, 16)
    except ValueError:
        size = -1
    if size < 0 or len(line) > 12:
        raise HttpError("malformed chunk")
    return size


async def _read_exactly(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        part = await reader.read(min(length, CHUNK_BYTES))
        if not part:
            raise HttpError("the body ended early")
        length -= len(part)
        yield part


@dataclass(frozen=True)
class ClientResponse:
    """The head of a response whose body can be read."""

    status: int
    head: Head
    reader: asyncio.StreamReader

    async def body(self, limit: int) -> bytes:
        """Reads the body; raises HttpError if more than `limit` bytes arrive."""
        data = bytearray()
        async for part in read_body(self.reader, body_length(self.head)):
            if violates("chunked-blob-unlimited") and body_length(self.head) == -1:
                data += part[: max(0, limit - len(data))]  # read without end, but kept up to the limit
                continue
            data += part
            if len(data) > limit:
                raise HttpError(f"the body is longer than {limit} bytes")
        return bytes(data)


def parse_url(text: str) -> SplitResult:
    """Parses an absolute http or https URL without a user."""
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and url.hostname and url.username is None and url.port != 0
    except ValueError:
        valid = False
    if not valid or not text.isascii() or any(character <= " " for character in text):
        raise HttpError("malformed URL")
    return url


def port_of(url: SplitResult) -> int:
    """Returns the port of a URL, or the default port of its scheme."""
    return url.port or (443 if url.scheme == "https" else 80)


@asynccontextmanager
async def get(url: SplitResult, headers: dict[str, str]) -> AsyncIterator[ClientResponse]:
    """Sends a GET request on its own connection and yields the response; redirects are not followed."""
    context = ssl.create_default_context() if url.scheme == "https" else None
    try:
        reader, writer = await asyncio.open_connection(
            url.hostname, port_of(url), ssl=context, limit=MAX_HEAD_BYTES
        )
    except UnicodeError:
        raise HttpError("malformed host name") from None
    try:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = [f"GET {target} HTTP/1.1", f"Host: {url.netloc}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        await writer.drain()
        yield await _read_response(reader)
    finally:
        writer.close()


async def _read_response(reader: asyncio.StreamReader) -> ClientResponse:
    for _ in range(MAX_INTERIM_RESPONSES):
        head = await read_head(reader)
        version, _, rest = head.line.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit() and len(code) == 3):
            raise HttpError("the server does not speak HTTP/1.1")
        if int(code) >= 200:
            return ClientResponse(int(code), head, reader)
    raise HttpError("too many interim responses")
