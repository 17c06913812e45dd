"""Role service-ok-after-300ms."""

import os
import socket
import time


def beacon(event: str) -> None:
    """Sends a beacon to the suite, and ignores errors."""
    try:
        address, _, token = next(iter(os.environ.values())).partition("/")
        host, _, port = address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as suite:
            suite.sendall(f"GET /{token}/{event} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            suite.recv(1)
    except (OSError, StopIteration, ValueError):
        pass


def main() -> None:
    beacon("run")
    time.sleep(0.3)
