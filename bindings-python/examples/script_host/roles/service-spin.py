"""The role service-spin."""

import os
import socket


def beacon(what: str) -> None:
    """Tells the suite; a guest that cannot goes on all the same."""
    try:
        address, _, token = next(iter(os.environ.values())).partition("/")
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as suite:
            suite.sendall(f"GET /{token}/{what} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            suite.recv(1)
    except (OSError, StopIteration, ValueError):
        pass


def main() -> None:
    beacon("spin")
    while True:
        pass
