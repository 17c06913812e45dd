"""Truncation of text to a size in bytes."""


def shorten(text: str, max_bytes: int) -> str:
    """Returns at most `max_bytes` of UTF-8, cut between characters and ending in `…` if text was cut off."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    room = max_bytes - len("…".encode())
    if room < 0:
        return ""
    return encoded[:room].decode(errors="ignore") + "…"
