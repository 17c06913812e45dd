"""One lifetime of a workload on one host: which command is next, and what a reply means."""

from __future__ import annotations

from dataclasses import dataclass

from codec import Status
from violation import violates

START_TIMEOUT_S = 60.0
POLL_S = 2.5
RESEND_S = 2.5
# After STOPPING, the end is requested at this interval.
CONFIRM_S = 0.7
# An unanswered status of an unconfirmed start is repeated at this interval.
CLARIFY_S = 2.0
# The reply to a start may be lost, so that the status is known earlier than the reply.
PENDING_POLL_S = 5.0
# A pull can take minutes.
ABANDON_STARTING_S = 900.0
READY = ("RUNNING", "COMPLETED")
ENDED = ("COMPLETED", "ERROR", "NOT_FOUND")


@dataclass(eq=False)
class Incarnation:
    """The state of one id; all methods are pure except for changes of this object."""

    id: str
    host: str
    process: str
    wanted: bool = True
    # A start was sent, or may have been sent before a restart of the scheduler.
    sent: int = 0
    # Time of the start whose reply is still expected.
    pending_since: float | None = None
    # No reply to a start and no status has clarified whether the start arrived.
    unclear: bool = False
    # The start never arrived and has to be sent again.
    repeat: bool = False
    # A repeated start was refused; the next status decides.
    refusal: str | None = None
    state: str = ""
    message: str = ""
    ended: bool = False
    gone: bool = False
    # The first start had no responders, so that nothing runs on the host.
    undelivered: bool = False
    # The host was lost, so that the scheduler continues without this id.
    given_up: bool = False
    starting_since: float | None = None
    stops: int = 0
    status_seq: int = 0
    # Replies to earlier status requests may describe the time before the start.
    trusted_seq: int = 0
    next_status: float = 0.0
    next_stop: float = 0.0
    running_since: float | None = None
    # The code of the reply that refused the start.
    refusal_code: str | None = None
    # The following fields only have an effect in a violation.
    retry_at_once: bool = False
    unpolled: bool = False
    stop_answered: bool = False
    held: bool = False
    start_at: float = 0.0
    first_unreachable: float | None = None
    adopted: bool = False

    @property
    def ready(self) -> bool:
        if self.state == "STARTING" and violates("starting-after-running-stays-ready"):
            return self.running_since is not None
        if self.state == "STOPPING" and self.wanted and violates("stopping-status-stays-ready"):
            return True
        return self.state in READY

    def next_command(self, now: float) -> tuple[str, float]:
        """Returns a command to send now, or `wait` with the time of the next decision."""
        if self.gone:
            return "wait", now + 3600.0
        if not self.wanted:
            return self._next_stop(now)
        if not self.sent or self.repeat:
            return ("start", now) if now >= self.start_at else ("wait", self.start_at)
        timeout = 5.0 if violates("start-repeated-after-5-s") else START_TIMEOUT_S
        if self.pending_since is not None and now - self.pending_since >= timeout:
            self._lose_reply(now)
        if self.ended or self.unpolled:
            return "wait", now + 3600.0
        if now >= self.next_status:
            return "status", now
        return "wait", self.next_status

    def _next_stop(self, now: float) -> tuple[str, float]:
        if not self.sent or self.undelivered:
            self.gone = True
            return "wait", now
        if self.held:
            return "wait", now + 0.2
        if now >= self.next_stop:
            forgotten = self.stops >= 2 and not self.stop_answered
            if forgotten and violates("unanswered-stop-sent-twice-only"):
                self.gone = True
                return "wait", now
            return "stop", now
        if self.state == "STOPPING" and self.stops and now >= self.next_status:
            return "status", now
        later = [self.next_stop]
        if self.state == "STOPPING" and self.stops:
            later.append(self.next_status)
        return "wait", min(later)

    def sending(self, command: str, now: float) -> int:
        """Records that a command is sent, and returns a number to pass with its reply."""
        if command == "start":
            self.sent += 1
            self.unclear, self.repeat, self.pending_since = False, False, now
            self.next_status = now + PENDING_POLL_S
        elif command == "stop":
            if not self.stops and (self.pending_since is not None or self.unclear):
                self.trusted_seq = self.status_seq + 1
            self.stops += 1
            self.next_stop = now + RESEND_S
            self.next_status = now + self._status_interval()
        else:
            self.status_seq += 1
            self.next_status = now + self._status_interval()
        return self.status_seq

    def _status_interval(self) -> float:
        if not self.wanted:
            return 0.1 if violates("polls-stopping-id-every-100-ms") else CONFIRM_S
        if self.pending_since is not None:
            return PENDING_POLL_S
        return CLARIFY_S if self.unclear else POLL_S

    def unknown_after_restart(self) -> None:
        """Prepares an id from the store, whose start may or may not have arrived."""
        self.sent, self.unclear, self.adopted = 1, not self.state, True
        self.unpolled = violates("adopted-ids-not-polled")

    def _lose_reply(self, now: float) -> None:
        self.pending_since, self.unclear = None, True
        self.trusted_seq, self.next_status = self.status_seq + 1, now

    def _settle(self) -> None:
        if self.pending_since is not None or self.unclear:
            self.trusted_seq = self.status_seq + 1
        self.pending_since, self.unclear = None, False

    def on_start(self, kind: str, status: Status | None, code: str | None, now: float) -> None:
        """Interprets the outcome of a start."""
        if self.pending_since is None:
            return
        if self._on_start_in_violation(kind, status, code, now):
            return
        if kind == "no-responders" and self.sent == 1:
            self.pending_since = None
            self.undelivered = self.ended = self.gone = True
            self.message = "the host did not respond"
        elif status is None:
            self._lose_reply(now)
        elif status.state == "ERROR" and (self.sent > 1 or code == "409"):
            self._lose_reply(now)
            self.refusal = status.message or "the host refused the start"
        else:
            self._settle()
            self._accept(status, now)
            self.refusal_code = code

    def _on_start_in_violation(
        self, kind: str, status: Status | None, code: str | None, now: float
    ) -> bool:
        """Handles the outcome of a start in violation of the specification, or returns False."""
        if kind == "no-responders" and violates("no-responders-retries-same-host"):
            self.first_unreachable = self.first_unreachable or now
            if now - self.first_unreachable < 20.0:
                self.sent, self.pending_since, self.start_at = 0, None, now + 3.0
                return True
            self.sent = 1
        if status is None:
            return False
        if status.state == "ERROR" and code == "409" and self.sent == 1:
            if not violates("conflict-reply-shown-as-ready"):
                return False
            status = Status("RUNNING", "")
        elif status.state == "ERROR" and self.sent > 1 and code != "409":
            if not violates("uncoded-error-on-repeat-is-failure"):
                return False
        elif status.state == "COMPLETED" and violates("completed-in-start-reply-is-failure"):
            status = Status("ERROR", "the workload has completed")
        elif status.state == "RUNNING" and not self.wanted and self.stops:
            if not violates("running-reply-ends-pending-stop"):
                return False
            self.gone = True
        elif status.state == "ERROR" and violates("undecodable-start-reply-is-refusal"):
            self.retry_at_once = status.message == "the reply is not valid JSON"
        else:
            return False
        gone = self.gone
        self._settle()
        self._accept(status, now)
        self.gone = self.gone or gone
        return True

    def on_status(self, seq: int, status: Status | None, now: float) -> None:
        """Interprets the outcome of a status request."""
        if self.gone:
            return
        if status is None:
            self._on_missed_status()
            return
        if status.state == "ERROR" and self.wanted:
            if not status.message and violates("error-without-message-ignored"):
                return
            if violates("message-of-later-error-not-shown"):
                status = Status("ERROR", "")
        if not self.wanted:
            self._on_status_of_unwanted(seq, status, now)
            return
        uncertain = self.pending_since is not None or seq < self.trusted_seq
        if uncertain and status.state in ("NOT_FOUND", "ERROR", "STOPPING"):
            return
        if status.state == "NOT_FOUND" and self.refusal is not None:
            status = Status("NOT_FOUND", self.refusal)
        elif status.state == "NOT_FOUND" and self.unclear:
            self.repeat = True
            return
        self.refusal = None
        self._settle()
        self._accept(status, now)

    def _on_missed_status(self) -> None:
        """Ignores an unanswered status request, which proves nothing."""
        if self.wanted and violates("polling-ends-after-missed-reply"):
            self.unpolled = True
        if not self.wanted and self.state == "STOPPING" and violates("missed-status-ends-stop"):
            self.gone = self.ended = True

    def _on_status_of_unwanted(self, seq: int, status: Status, now: float) -> None:
        if status.state == "NOT_FOUND" and violates("not-found-by-status-repeats-stop"):
            self.next_stop = min(self.next_stop, now + CONFIRM_S)
        elif status.state == "NOT_FOUND" and seq >= self.trusted_seq:
            self.gone = self.ended = True
        elif status.state in ENDED:
            self.ended = True
        elif self.state == "STOPPING" and status.state != "STOPPING":
            self.next_stop = min(self.next_stop, now + CONFIRM_S)

    def on_stop(self, status: Status | None, now: float) -> None:
        """Interprets the outcome of a stop."""
        if status is None or self.gone:
            return
        self.stop_answered = True
        if status.state == "NOT_FOUND":
            self.gone = self.ended = True
        elif status.state == "STOPPING":
            self.state = "STOPPING"
            self.next_stop = now + 4 * RESEND_S
            self.next_status = now + self._status_interval() / 2

    def _accept(self, status: Status, now: float) -> None:
        self.state = status.state
        self.message = status.message
        if status.state == "RUNNING":
            self.running_since = self.running_since or now
        if status.state == "STARTING":
            self.starting_since = self.starting_since or now
        else:
            self.starting_since = None
        self.ended = status.state in ENDED
        self.gone = status.state == "NOT_FOUND"

    def abandon(self) -> None:
        """Gives up the id because its host is lost; it is stopped when the host returns."""
        self.given_up, self.ended = True, True
        self._settle()

    def end(self, message: str) -> None:
        """Records that the process of the host has ended, and the incarnation with it."""
        self.gone = self.ended = True
        self._settle()
        if self.state != "COMPLETED":
            self.state, self.message = "NOT_FOUND", message

    def abandoned(self, now: float) -> bool:
        """Returns whether the workload has been STARTING for too long."""
        since = self.starting_since
        return since is not None and now - since >= ABANDON_STARTING_S

    def on_disconnect(self, now: float) -> None:
        """Treats commands in flight as unanswered, because their replies are lost."""
        if self.pending_since is not None:
            self._lose_reply(now)
        self.next_stop = now
