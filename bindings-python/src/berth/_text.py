"""Truncation and cleaning of text from peers."""


def shorten(text: str, max_bytes: int) -> str:
    """Returns at most `max_bytes` of UTF-8, cut between characters and ending in `…` if text was cut off."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    room = max_bytes - len("…".encode())
    if room < 0:
        return ""
    return encoded[:room].decode(errors="ignore") + "…"


def printable(text: str, max_bytes: int) -> str:
    """Returns a text for one line of a log: shortened, and without control characters and surrogates."""
    return "".join(char if char.isprintable() else "?" for char in shorten(text, max_bytes))
