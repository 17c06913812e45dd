"""Text that is made to fit."""


def shorten(text: str, max_bytes: int) -> str:
    """At most `max_bytes` of UTF-8, cut between characters and with `…` where something is missing."""
    whole = text.encode(errors="replace")
    if len(whole) <= max_bytes:
        return whole.decode()
    room = max_bytes - len("…".encode())
    if room < 0:
        return ""
    return whole[:room].decode(errors="ignore") + "…"
