"""Replies, texts and subjects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from berth import _subject, proto
from berth._reply import MAX_HEADER_TEXT_BYTES, ErrorCode, Reply
from berth._text import shorten
from berth.encoding import decode
from berth.state import WorkloadState

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    st.text(max_size=600),
    st.integers(900, 2000),
    st.booleans(),
)
def test_reply_fits_payload_and_keeps_id(workload_id: str, message: str, max_bytes: int, refused: bool) -> None:
    message = message.encode(errors="replace").decode()
    reply = Reply(workload_id, WorkloadState.ERROR, message, ErrorCode.BAD_REQUEST if refused else None)
    body = reply.to_json(max_bytes)
    assert body is not None
    assert len(body) <= max_bytes
    assert decode(proto.WorkloadStartResponse, body).workload_status.workload_id == workload_id


def test_shortens_message_only_if_needed() -> None:
    reply = Reply("a", WorkloadState.ERROR, "x" * 500)
    assert b"x" * 500 in (reply.to_json(1000) or b"")
    body = reply.to_json(300) or b""
    assert len(body) > 200
    assert "x…".encode() in body
    assert reply.to_json(50) is None, "an ID is never shortened"


def test_header_is_one_line() -> None:
    headers = Reply.refused("", ErrorCode.BAD_REQUEST, "a\r\nb\u00e9" + "c" * 900).headers()
    assert headers is not None
    assert headers["Nats-Service-Error-Code"] == "400"
    assert headers["Nats-Service-Error"].startswith("a??b?c")
    assert len(headers["Nats-Service-Error"]) == MAX_HEADER_TEXT_BYTES
    assert Reply.not_found("a").headers() is None


@given(TEXT, st.integers(0, 50))
def test_shortened_text_is_prefix(text: str, max_bytes: int) -> None:
    short = shorten(text, max_bytes)
    assert len(short.encode()) <= max_bytes
    assert text.startswith(short if short == text else short.removesuffix("…"))


def test_command_subjects_round_trip() -> None:
    for command in _subject.Command:
        assert _subject.parse_command("h-1", _subject.command("h-1", command)) is command
    assert _subject.parse_command("h", "runtime.host.h.workload.start.x") == "workload.start.x"
    assert _subject.parse_command("h", "runtime.host.hh.heartbeat") == "runtime.host.hh.heartbeat"


def test_validates_ids() -> None:
    for invalid in ("", "a.b", "a b", "*", ">", "a\n", "a\0", "x" * 257):
        assert not _subject.is_token(invalid), invalid
    assert _subject.is_token("0b5f-ü")
    assert not _subject.is_host_id("0b5f-ü")
    assert _subject.parse_heartbeat(_subject.heartbeat("h")) == "h"
    for invalid in ("a.b", "0b5f-ü", "a+b"):
        assert _subject.parse_heartbeat(f"runtime.operator.heartbeat.{invalid}") is None
