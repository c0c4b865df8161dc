"""One attempt at one command: what may be done, what is found, and what follows from a failure."""

from __future__ import annotations

import datetime as dt
import random

from agents.commands.admitted import Claimed
from agents.commands.handlers import HANDLERS, Attempt, DependencyFailed, Expired, Open
from agents.commands.leases import LeaseLost
from agents.commands.outcomes import Ending, Failed, Released, Retried, Succeeded, Unknown
from agents.kommo.problems import KommoError
from agents.retry import Again, Policies
from runtime.classify import classify, describe
from runtime.logs import logger
from schemas.errors import ErrorClass

log = logger(__name__)

_CHANCE = random.SystemRandom()
_TOO_LATE = "its age ran out before it could be carried out"


async def carry_out(attempt: Attempt, policies: Policies) -> Ending:
    """Carry a command out, or find out that it was; return how the attempt ended. Never raises but to be cancelled."""
    ending = await _carry_out(attempt, policies)
    if isinstance(ending, Failed) and (attempt.mailed or attempt.claimed.progress.get("mailed")):
        # A dead letter says that nothing happened, and may be sent again.
        return Unknown(ending.error_class, f"the mail was sent, its note was not: {ending.error}")
    return ending


async def _carry_out(attempt: Attempt, policies: Policies) -> Ending:
    claimed = attempt.claimed
    doubt = claimed.doubt is not None
    handler = HANDLERS[claimed.command.name]
    try:
        if doubt:
            found = await handler.look(attempt)
            if isinstance(found, Succeeded):
                return found
            if isinstance(found, Open):
                return Unknown(_class(claimed.last_error_class), found.why)
            doubt = False
        ended = _ended(attempt)
        return ended or await handler.send(attempt)
    except LeaseLost:
        return Released(_now()) if not attempt.written else after_failure(claimed, policies, _lost(), True)
    except Expired:
        return _too_late(claimed)
    except DependencyFailed as error:
        return Failed(ErrorClass.NOT_FOUND, f"dependency_failed: {error}")
    except Exception as error:
        # What nobody foresaw after the bytes had left is open, too.
        left = getattr(error, "left", True)
        if classify(error) is ErrorClass.INTERNAL:
            log.exception("an attempt failed", command=claimed.command.id, action=claimed.command.name)
        return after_failure(claimed, policies, error, doubt or (attempt.written and left))


def _ended(attempt: Attempt) -> Failed | None:
    """Return why it must not be begun any more; None where it may."""
    claimed = attempt.claimed
    dependency = claimed.dependency
    if claimed.command.after is not None and dependency is None:
        return Failed(ErrorClass.NOT_FOUND, f"dependency_failed: command {claimed.command.after} never came")
    if dependency is not None and dependency.state != "succeeded":
        return Failed(ErrorClass.NOT_FOUND, f"dependency_failed: command {dependency.id} is {dependency.state}")
    if claimed.claimed_at >= claimed.expires_at:
        return _too_late(claimed)
    return None


def _too_late(claimed: Claimed) -> Failed:
    expires = claimed.command.expires
    if claimed.last_error_class is None and expires is not None and expires <= claimed.expires_at:
        return Failed(ErrorClass.VALIDATION, "its `expires` had passed before it could be begun")
    return Failed(_class(claimed.last_error_class), _TOO_LATE)


def after_failure(claimed: Claimed, policies: Policies, error: Exception, doubt: bool) -> Ending:
    """Return what follows from a failure; `doubt`: the command may have been carried out."""
    if isinstance(error, KommoError) and _held(error) and _now() < claimed.expires_at:
        return Released(min(_now() + dt.timedelta(seconds=error.retry_after or 0), claimed.expires_at))
    error_class = classify(error)
    told = describe(error)
    retry_after = error.retry_after if isinstance(error, KommoError) else None
    decision = policies.of(claimed.command.name, error_class).decide(
        error_class,
        attempts=claimed.attempts - claimed.attempts_before,
        began=claimed.begun_at or claimed.admitted_at,
        now=_now(),
        chance=_CHANCE.random(),
        retry_after=retry_after,
    )
    if isinstance(decision, Again) and decision.at < claimed.expires_at:
        return Retried(decision.at, error_class, told, doubt)
    why = told if isinstance(decision, Again) or error_class.facts.retried == "never" else f"{told} ({decision.why})"
    return Unknown(error_class, why) if doubt else Failed(error_class, why)


def _held(error: KommoError) -> bool:
    """Return whether a limit or a circuit of ours kept the request back: Kommo was not asked at all."""
    ours = error.error_class in (ErrorClass.RATE_LIMIT, ErrorClass.EXTERNAL_SERVICE)
    return ours and error.status is None and error.retry_after is not None and not error.left


def _lost() -> KommoError:
    return KommoError(ErrorClass.EXTERNAL_SERVICE, "the lease ended while the request was under way", left=True)


def _class(name: str | None) -> ErrorClass:
    return ErrorClass(name) if name else ErrorClass.EXTERNAL_SERVICE


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
