"""What became of the requests of a simulation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from simulator.postal import accepted


@dataclass(slots=True)
class Counts:
    """Each request that was sent ends in exactly one of answers, timed_out, failed and abandoned.

    And each is of exactly one kind: it is new, or counts among repeats, attempts_again or garbage.
    """

    sent: int = 0
    repeats: int = 0
    """Requests that sent a delivery once more on request, whatever became of the one before."""
    attempts_again: int = 0
    """Requests that were a second or later attempt by Kommo's rules, after one that was not accepted."""
    garbage: int = 0
    """Requests that sent a body that is no webhook, for the first time."""
    answers: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status."""
    timed_out: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """No answer: by the name of what went wrong, for example ConnectError."""
    abandoned: int = 0
    """Still without an answer when sending was stopped."""
    lost: int = 0
    """Webhooks that were never sent, on request."""
    given_up: int = 0
    """Deliveries that Kommo's rules let no further attempt be made for."""
    waiting: int = 0
    """Deliveries that waited to be sent (again) when it ended."""

    @property
    def new(self) -> int:
        """Requests that sent a webhook for the first time."""
        return self.sent - self.repeats - self.attempts_again - self.garbage

    @property
    def accepted(self) -> int:
        """Answers that Kommo takes as received."""
        return sum(count for status, count in self.answers.items() if accepted(status))

    @property
    def ended(self) -> int:
        """Requests that are no longer under way."""
        return self.answers.total() + self.timed_out + self.failed.total() + self.abandoned

    @property
    def wrong_address(self) -> bool:
        """Whether every request so far was answered 404, which is what an invalid webhook address gets."""
        return 0 < self.answers[404] == self.ended

    def kinds(self) -> str:
        """Return for people of which kinds the requests are: new, repeated on request, retried after a failure."""
        parts = [f"{self.new} new"]
        parts += [f"{self.repeats} repeated"] if self.repeats else []
        parts += [f"{self.attempts_again} retried"] if self.attempts_again else []
        parts += [f"{self.garbage} garbage"] if self.garbage else []
        return ", ".join(parts)

    def summary(self, seconds: float) -> str:
        """Return one line for people: what was sent, what became of it, and what was not sent. It holds no secret."""
        parts = [f"{self.accepted} accepted"]
        parts += [
            f"{count} answered {status}" for status, count in sorted(self.answers.items()) if not accepted(status)
        ]
        parts += [f"{self.timed_out} timed out"] if self.timed_out else []
        parts += [f"{count} not sent ({name})" for name, count in sorted(self.failed.items())]
        parts += [f"{self.abandoned} without an answer at the stop"] if self.abandoned else []
        parts += [f"{self.given_up} given up"] if self.given_up else []
        unsent = [f"{self.lost} lost on request"] if self.lost else []
        unsent += [f"{self.waiting} still to be sent"] if self.waiting else []
        rate = self.sent / max(seconds, 0.001)
        told = [f"sent {self.sent} in {seconds:.1f} s ({rate:.1f}/s): {self.kinds()}", ", ".join(parts)]
        return "; ".join([*told, ", ".join(unsent)] if unsent else told)

    def complaint(self) -> str | None:
        """Return why nothing was taken and what to do about it; None where something was, or nothing came to an end."""
        if self.accepted or self.ended == self.abandoned:
            return None
        if self.wrong_address:
            return "the webhook address is not valid: the gateway answered 404 to all. Make a new one at the gateway."
        if self.failed and not self.answers:
            return "the gateway cannot be reached: is it running, and is the address its own?"
        return "the gateway took none of the deliveries: its log says why."
