"""Replies fit, and keep their id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from berth import _subject, proto
from berth._reply import MAX_HEADER_TEXT_BYTES, Code, Reply
from berth._text import shorten
from berth.encoding import read
from berth.state import WorkloadState

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
    st.text(max_size=600),
    st.integers(900, 2000),
    st.booleans(),
)
def test_a_reply_fits_and_keeps_its_id(workload_id: str, message: str, room: int, refused: bool) -> None:
    message = message.encode(errors="replace").decode()
    reply = Reply(workload_id, WorkloadState.ERROR, message, Code.BAD_REQUEST if refused else None)
    body = reply.to_json(room)
    assert body is not None
    assert len(body) <= room
    assert read(proto.WorkloadStartResponse, body).workload_status.workload_id == workload_id


def test_a_message_that_fits_is_whole() -> None:
    reply = Reply("a", WorkloadState.ERROR, "x" * 500)
    assert b"x" * 500 in (reply.to_json(1000) or b"")
    body = reply.to_json(300) or b""
    assert len(body) > 200
    assert "x…".encode() in body
    assert reply.to_json(50) is None, "an id is never cut"


def test_a_header_is_one_line() -> None:
    headers = Reply.refused("", Code.BAD_REQUEST, "a\r\nb\u00e9" + "c" * 900).headers()
    assert headers is not None
    assert headers["Nats-Service-Error-Code"] == "400"
    assert headers["Nats-Service-Error"].startswith("a??b?c")
    assert len(headers["Nats-Service-Error"]) == MAX_HEADER_TEXT_BYTES
    assert Reply.not_found("a").headers() is None


@given(TEXT, st.integers(0, 50))
def test_shortened_text_is_a_beginning_of_it(text: str, room: int) -> None:
    short = shorten(text, room)
    assert len(short.encode()) <= room
    assert text.startswith(short if short == text else short.removesuffix("…"))


def test_commands_are_read_as_they_are_written() -> None:
    for command in _subject.Command:
        assert _subject.parse_command("h-1", _subject.command("h-1", command)) is command
    assert _subject.parse_command("h", "runtime.host.h.workload.start.x") == "workload.start.x"
    assert _subject.parse_command("h", "runtime.host.hh.heartbeat") == "runtime.host.hh.heartbeat"


def test_an_id_is_one_token() -> None:
    for bad in ("", "a.b", "a b", "*", ">", "a\n", "a\0", "x" * 257):
        assert not _subject.is_token(bad), bad
    assert _subject.is_token("0b5f-ü")
    assert not _subject.is_host_id("0b5f-ü")
    assert _subject.parse_heartbeat(_subject.heartbeat_of("h")) == "h"
    for bad in ("a.b", "0b5f-ü", "a+b"):
        assert _subject.parse_heartbeat(f"runtime.operator.heartbeat.{bad}") is None
