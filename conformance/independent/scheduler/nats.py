"""A NATS client for requests and one subscription, which buffers nothing while it is disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from violation import violates

LOG = logging.getLogger("nats")

# A broker that restarts is found again well within the `reconnect` of a scheduler.
RECONNECT_DELAY_S = 0.5
HANDSHAKE_TIMEOUT_S = 5.0
# A dead connection that was never closed is detected after two unanswered PINGs.
PING_INTERVAL_S = 5.0
MAX_UNANSWERED_PINGS = 2
# INFO is the longest line of the protocol, and lists the URLs of a cluster.
MAX_LINE_BYTES = 64 * 1024
# The largest `max_payload` that a nats-server accepts.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# More unsent bytes than this mean that the broker no longer reads.
MAX_UNSENT_BYTES = 32 * 1024 * 1024


class ProtocolError(Exception):
    """A line of the broker that a NATS client cannot interpret."""


@dataclass(frozen=True)
class Reply:
    """Outcome of a request: `message`, `no-responders`, `timeout` or `disconnected`."""

    kind: str
    payload: bytes = b""
    error_code: str | None = None


@dataclass(frozen=True)
class Server:
    """Address and credentials of a broker."""

    host: str
    port: int
    user: str | None
    password: str | None

    @staticmethod
    def parse(url: str) -> Server:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        if parts.scheme != "nats" or not parts.hostname:
            raise ValueError("the URL of the broker must have the form nats://HOST[:PORT]")
        return Server(parts.hostname, parts.port or 4222, parts.username, parts.password)


class Connection:
    """Keeps one connection to a broker open and sends requests on it."""

    def __init__(
        self,
        server: Server,
        subject: str,
        on_message: Callable[[str, bytes], None],
        on_connection: Callable[[bool], None],
    ) -> None:
        self.server = server
        self.subject = subject
        self.on_message = on_message
        self.on_connection = on_connection
        self.max_payload = 1024 * 1024
        self.connected = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._next_reply = 0
        self._pending: dict[str, tuple[asyncio.Future[Reply], asyncio.TimerHandle]] = {}
        self._unanswered_pings = 0
        self._connections = 0

    async def run(self) -> None:
        """Connects, and connects again after each loss of the connection, until it is canceled."""
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._serve()
            except (OSError, EOFError, ProtocolError, ValueError, TimeoutError) as error:
                LOG.info("no connection to the broker: %s", type(error).__name__)
            finally:
                self._disconnect()
            if violates("only-first-outage-survived") and self._connections > 1:
                await asyncio.Event().wait()
            if violates("startup-gives-up-after-5-attempts") and not self._connections:
                if attempts >= 5:
                    raise ConnectionError("cannot connect to the broker")
                await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(RECONNECT_DELAY_S * random.uniform(0.8, 1.2))

    def publish(self, subject: str, payload: bytes, reply: str = "") -> bool:
        """Sends a message, or returns False if it cannot be sent now."""
        writer = self._writer
        if writer is None or not self.connected.is_set():
            return False
        if writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            writer.transport.abort()
            return False
        head = f"PUB {subject} {reply} {len(payload)}\r\n".replace("  ", " ")
        writer.write(head.encode() + payload + b"\r\n")
        return True

    def request(self, subject: str, payload: bytes, timeout_s: float) -> asyncio.Future[Reply]:
        """Sends a request; the future always gets a Reply, at the latest after the timeout."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._next_reply += 1
        token = str(self._next_reply)
        if self.publish(subject, payload, f"{self._inbox}.{token}"):
            timer = loop.call_later(timeout_s, self._resolve, token, Reply("timeout"))
            self._pending[token] = (future, timer)
        else:
            future.set_result(Reply("disconnected"))
        return future

    def unsubscribe(self) -> None:
        """Ends the subscription of the current connection."""
        if self._writer is not None:
            self._writer.write(b"UNSUB 1\r\n")

    def _resolve(self, token: str, reply: Reply) -> None:
        future, timer = self._pending.pop(token, (None, None))
        if future is None or timer is None:
            return
        timer.cancel()
        if not future.done():
            future.set_result(reply)

    async def _serve(self) -> None:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                self.server.host, self.server.port, limit=MAX_LINE_BYTES
            )
            self._writer = writer
            await self._handshake(reader, writer)
        self._unanswered_pings = 0
        self._connections += 1
        self.connected.set()
        self.on_connection(True)
        pings = asyncio.create_task(self._send_pings(writer))
        try:
            while line := await reader.readline():
                await self._receive(line, reader, writer)
        finally:
            pings.cancel()

    async def _handshake(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._read_info(await reader.readline())
        options: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "protocol": 1,
            "lang": "python",
            "version": "1",
            "name": "independent-scheduler",
        }
        if self.server.password is not None:
            options["user"] = self.server.user or ""
            options["pass"] = self.server.password
        elif self.server.user is not None:
            options["auth_token"] = self.server.user
        writer.write(f"CONNECT {json.dumps(options)}\r\n".encode())
        if not (violates("heartbeats-not-resubscribed") and self._connections):
            writer.write(f"SUB {self.subject} 1\r\n".encode())
        writer.write(f"SUB {self._inbox}.* 2\r\nPING\r\n".encode())
        while (line := await reader.readline()).strip() != b"PONG":
            if not line or line.startswith(b"-ERR"):
                raise ProtocolError("the broker refused the connection")
            await self._receive(line, reader, writer)

    def _read_info(self, line: bytes) -> None:
        if not line.startswith(b"INFO "):
            raise ProtocolError("the broker did not send INFO")
        info = json.loads(line[5:])
        if info.get("tls_required"):
            raise ProtocolError("the broker requires TLS, which this client does not support")
        self.max_payload = int(info.get("max_payload", self.max_payload))

    async def _receive(
        self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        words = line.split()
        verb = words[0].upper() if words else b""
        if verb in (b"MSG", b"HMSG"):
            await self._receive_message(verb, words, reader)
        elif verb == b"PING":
            writer.write(b"PONG\r\n")
        elif verb == b"PONG":
            self._unanswered_pings = 0
        elif verb == b"INFO":
            self._read_info(line)
        elif verb == b"-ERR":
            LOG.warning("the broker reports an error: %s", line.decode("utf-8", "replace").strip())
        elif verb not in (b"+OK", b""):
            raise ProtocolError("the broker sent an unknown operation")

    async def _receive_message(
        self, verb: bytes, words: list[bytes], reader: asyncio.StreamReader
    ) -> None:
        sizes = 2 if verb == b"HMSG" else 1
        if len(words) not in (3 + sizes, 4 + sizes):
            raise ProtocolError("the broker sent a malformed message")
        total = int(words[-1])
        head = int(words[-2]) if sizes == 2 else 0
        if not 0 <= head <= total <= MAX_MESSAGE_BYTES:
            raise ProtocolError("the broker sent a message of an invalid size")
        content = (await reader.readexactly(total + 2))[:total]
        subject = words[1].decode("utf-8", "replace")
        if words[2] == b"1":
            self.on_message(subject, content[head:])
        else:
            self._resolve(subject.rpartition(".")[2], _reply(content[:head], content[head:]))

    async def _send_pings(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            if self._unanswered_pings >= MAX_UNANSWERED_PINGS:
                writer.transport.abort()
                return
            self._unanswered_pings += 1
            writer.write(b"PING\r\n")

    def _disconnect(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                writer.transport.abort()
        was_connected = self.connected.is_set()
        self.connected.clear()
        for token in list(self._pending):
            self._resolve(token, Reply("disconnected"))
        if was_connected:
            self.on_connection(False)


def _reply(head: bytes, payload: bytes) -> Reply:
    lines = head.decode("utf-8", "replace").split("\r\n")
    if lines[0].startswith("NATS/1.0 503") and not payload:
        return Reply("no-responders")
    if head and violates("reply-headers-mean-no-responders"):
        return Reply("no-responders")
    code = None
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.strip().lower() == "nats-service-error-code":
            code = value.strip()
    return Reply("message", payload, code)


def monotonic() -> float:
    """Returns the time that all deadlines of the scheduler are measured in."""
    return time.monotonic()
