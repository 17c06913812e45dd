"""A NATS client with one subscription that reconnects until it is closed."""

import asyncio
import json
import logging
import random
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from violation import violates

log = logging.getLogger("nats")

CONNECT_S = 3.0  # one attempt; a peer expects the host within 10 s of the broker's return
RETRY_S = (0.5, 1.5)  # HOST-RESIL-001: short, with jitter
PING_S = 20.0  # HOST-RESIL-010: two unanswered PINGs end a dead connection within a minute
MAX_LINE_BYTES = 64 * 1024  # a protocol line; INFO is the longest
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # the limit of nats-server for its max_payload
MAX_UNSENT_BYTES = 64 * 1024 * 1024  # a broker that does not read is disconnected beyond this
DEFAULT_MAX_PAYLOAD = 1024 * 1024

HEADER_LINE = "NATS/1.0\r\n"
FOREIGN_SUBSCRIPTION = "1000"  # id of the subscription of a violation


class ProtocolError(Exception):
    """A line or message of the broker that is not NATS, or a refusal by the broker."""


@dataclass(frozen=True)
class Request:
    """A message that arrived on the subscription."""

    subject: str
    reply: str
    payload: bytes
    headers: tuple[tuple[str, str], ...] = ()


class NatsClient:
    """One connection at a time; calls `on_connect` whenever the subscription to `{prefix}>` is in effect."""

    def __init__(
        self,
        url: str,
        name: str,
        prefix: str,
        on_message: Callable[[Request], None],
        on_connect: Callable[[], None],
        on_disconnect: Callable[[], None],
    ) -> None:
        """Stores the settings; `run` connects."""
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        self._address = (parts.hostname or "127.0.0.1", parts.port or 4222)
        self._tls = parts.scheme == "tls"
        self._credentials = {}
        if parts.username is not None and parts.password is None:
            self._credentials = {"auth_token": unquote(parts.username)}
        elif parts.username is not None:
            self._credentials = {"user": unquote(parts.username), "pass": unquote(parts.password or "")}
        self._name = name
        self._prefix = prefix
        self._subscriptions: list[str] = []
        self._on_message, self._on_connect, self._on_disconnect = on_message, on_connect, on_disconnect
        self._writer: asyncio.StreamWriter | None = None
        self._pongs: list[asyncio.Future[None]] = []
        self._closed = False
        self._connections = 0
        self._backoff_s = 1.0
        self.connected = asyncio.Event()
        self.max_payload = DEFAULT_MAX_PAYLOAD

    async def run(self) -> None:
        """Connects again after each end of the connection, until `close`."""
        while not self._closed:
            try:
                await self._session()
            except (OSError, EOFError, ValueError, ProtocolError, asyncio.LimitOverrunError) as error:
                if not self._closed:
                    log.warning("no connection to the broker: %s", error or type(error).__name__)
            delay = random.uniform(*RETRY_S)  # noqa: S311 - jitter
            if violates("backoff-never-reset"):
                delay, self._backoff_s = self._backoff_s, self._backoff_s * 2
            if not self._closed:
                await asyncio.sleep(delay)

    async def _session(self) -> None:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await self._open()
        keepalive = asyncio.create_task(self._keep_alive())
        try:
            async with asyncio.timeout(CONNECT_S) as handshake:
                subscribed = self._ping()
                subscribed.add_done_callback(lambda done: self._enter(done, handshake))
                await self._read_loop(reader)
        finally:
            keepalive.cancel()
            self._leave()
            writer.close()

    def _enter(self, subscribed: asyncio.Future[None], handshake: asyncio.Timeout) -> None:
        """HOST-WIRE-014: the PONG shows that the subscription is in effect."""
        if not subscribed.cancelled():
            handshake.reschedule(None)
            self.connected.set()
            self._on_connect()
            if violates("stop-subscribed-after-heartbeat"):
                asyncio.get_running_loop().call_later(0.5, self._subscribe, ("workload.stop",))
            if violates("two-heartbeats-on-reconnect") and self._connections > 1:
                asyncio.get_running_loop().call_later(0.1, self._subscribe_and_announce)

    def _subscribe_and_announce(self) -> None:
        self._subscribe()
        self._on_connect()

    def _subscribe(self, commands: tuple[str, ...] = (">",)) -> None:
        for number, command in enumerate(commands):
            self._write(f"SUB {self._prefix}{command} {number + 1 + len(self._subscriptions)}\r\n".encode())
        self._subscriptions.extend(commands)

    def listen_to_all(self, command: str) -> None:
        """Subscribes to a command for all hosts; its messages are ignored."""
        self._write(f"SUB runtime.host.*.{command} {FOREIGN_SUBSCRIPTION}\r\n".encode())

    def _leave(self) -> None:
        self._writer = None
        for pong in self._pongs:
            pong.cancel()
        self._pongs.clear()
        if self.connected.is_set():
            self.connected.clear()
            self._on_disconnect()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._address, limit=MAX_LINE_BYTES)
        try:
            line = await _read_line(reader)
            if not line.startswith("INFO "):
                raise ProtocolError("the broker does not speak NATS")
            info = self._read_info(line)
            if self._tls or info.get("tls_required"):
                await writer.start_tls(ssl.create_default_context(), server_hostname=self._address[0])
            self._writer = writer
            options = {
                "verbose": False,
                "pedantic": False,
                "lang": "python",
                "version": "0.1.0",
                "protocol": 1,
                "headers": True,
                "name": self._name,
                **self._credentials,
            }
            self._write(f"CONNECT {json.dumps(options)}\r\n".encode())
            self._begin_subscriptions()
        except BaseException:
            writer.close()
            raise
        return reader, writer

    def _begin_subscriptions(self) -> None:
        self._connections += 1
        self._subscriptions.clear()
        if violates("second-outage-not-subscribed") and self._connections > 2:
            return
        if violates("two-heartbeats-on-reconnect") and self._connections > 1:
            return
        if violates("stop-subscribed-after-heartbeat"):
            self._subscribe(("heartbeat", "workload.start", "workload.status"))
        else:
            self._subscribe()

    def _read_info(self, line: str) -> dict[str, object]:
        info = json.loads(line.removeprefix("INFO "))
        if not isinstance(info, dict):
            raise ProtocolError("INFO is not an object")
        limit = info.get("max_payload")
        if isinstance(limit, int) and limit > 0:
            self.max_payload = limit
        return info

    async def _read_loop(self, reader: asyncio.StreamReader) -> None:
        while True:
            line = await _read_line(reader)
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "MSG" | "HMSG":
                    fields = rest.split()
                    request = await _read_message(reader, verb.upper(), fields)
                    if fields[1] != FOREIGN_SUBSCRIPTION:
                        self._on_message(request)
                case "PING":
                    self._write(b"PONG\r\n")
                case "PONG":
                    if self._pongs and not (pong := self._pongs.pop(0)).done():
                        pong.set_result(None)
                case "INFO":
                    self._read_info(line)
                case "-ERR":
                    log.warning("the broker reports %s", rest)
                    if "permissions violation" not in rest.lower():
                        raise ProtocolError(rest)
                case "+OK":
                    pass
                case _:
                    raise ProtocolError("unknown protocol line")

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            if len(self._pongs) >= 2 and self._writer:
                log.warning("the broker does not reply to PING")
                self._writer.transport.abort()
                return
            self._ping()

    def _ping(self) -> asyncio.Future[None]:
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._write(b"PING\r\n")
        return pong

    def _write(self, data: bytes) -> None:
        if self._writer is None:
            return
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            log.warning("the broker does not read")
            self._writer.transport.abort()

    def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None = None) -> None:
        """Sends a message if connected; HOST-RESIL-004: otherwise drops it."""
        if headers:
            head = header_block(headers)
            command = f"HPUB {subject} {len(head)} {len(head) + len(payload)}\r\n"
            self._write(command.encode() + head + payload + b"\r\n")
        else:
            self._write(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def publish_request(self, subject: str, reply: str, payload: bytes) -> None:
        """Sends a message with a reply subject, for a violation."""
        self._write(f"PUB {subject} {reply} {len(payload)}\r\n".encode() + payload + b"\r\n")

    async def flush(self, seconds: float) -> None:
        """Waits until the broker has processed everything sent before, or the time has passed."""
        if self.connected.is_set():
            await asyncio.wait({self._ping()}, timeout=seconds)

    async def unsubscribe(self, seconds: float) -> None:
        """Ends the subscription; messages that the broker sent before have arrived on return."""
        for number in range(len(self._subscriptions)):
            self._write(f"UNSUB {number + 1}\r\n".encode())
        await self.flush(seconds)

    def close(self) -> None:
        """Closes the connection for good."""
        self._closed = True
        if self._writer:
            self._writer.close()


def header_block(headers: dict[str, str]) -> bytes:
    """Encodes headers; values are one line of text."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{HEADER_LINE}{lines}\r\n".encode()


def one_line(text: str, limit: int) -> str:
    """Shortens text to one line that is safe in a header."""
    return re.sub(r"[^\x20-\x7e]+", " ", text)[:limit]


async def _read_line(reader: asyncio.StreamReader) -> str:
    return (await reader.readuntil(b"\n")).decode("utf-8", "replace").strip()


async def _read_message(reader: asyncio.StreamReader, verb: str, fields: list[str]) -> Request:
    """Reads the payload and the headers of MSG or HMSG."""
    sizes = 1 if verb == "MSG" else 2
    if len(fields) not in (2 + sizes, 3 + sizes):
        raise ProtocolError(f"malformed {verb}")
    header_bytes = int(fields[-2]) if verb == "HMSG" else 0
    total = int(fields[-1])
    if not 0 <= header_bytes <= total <= MAX_MESSAGE_BYTES:
        raise ProtocolError(f"malformed {verb}")
    data = await reader.readexactly(total + 2)
    reply = fields[2] if len(fields) == 3 + sizes else ""
    return Request(fields[0], reply, data[header_bytes:total], _read_headers(data[:header_bytes]))


def _read_headers(block: bytes) -> tuple[tuple[str, str], ...]:
    """Returns the headers; HOST-WIRE-017: a conforming host ignores them."""
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    return tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines) if name)
