"""The command `kommo-streams simulate`: a Kommo account at work that posts its webhooks to a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit

import click

from runtime.process import run
from runtime.settings import PREFIX, Settings, SettingsError, load_settings
from simulator.company import DEFAULT_ACCOUNT, deliveries
from simulator.sender import Counts, Sender

_PROGRESS_SECONDS = 0.5
_HOPELESS_AFTER = 5  # refusals of the address itself, before which nothing was taken


@dataclass(frozen=True, slots=True)
class Plan:
    """What a simulation does: `rate` is deliveries a second, `count` None sends until it is stopped."""

    url: str
    account: int
    seed: int
    rate: float
    count: int | None


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=2.0,
    show_default=True,
    help="Deliveries a second.",
)
@click.option("--seed", type=click.IntRange(0), help="Which company and what happens in it.  [default: a new one]")
@click.option("--count", type=click.IntRange(1), help="Stop after this many deliveries.  [default: until stopped]")
@click.option(
    "--account",
    type=click.IntRange(1, 2**63 - 1),
    help=f"Account id.  [default: that of the webhook address, or {DEFAULT_ACCOUNT}]",
)
@click.option("--url", help=f"Webhook address.  [default: {PREFIX}WEBHOOK_URL, which keeps it out of the process list]")
def simulate(rate: float, seed: int | None, count: int | None, account: int | None, url: str | None) -> None:
    """Post realistic Kommo webhooks to a gateway.

    Ends with a line of counts. Exit code: 0 sent (also when stopped), 1 the gateway took none, 2 wrong arguments.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    address = _address(url, settings)
    plan = Plan(address, _account(account, address), secrets.randbelow(2**31) if seed is None else seed, rate, count)
    began = time.monotonic()
    counts = _run(plan, settings)
    click.echo(summary(plan, counts, time.monotonic() - began))
    complaint = refusal(counts)
    if complaint:
        click.echo(complaint, err=True)
        sys.exit(1)


def token_account(url: str) -> int | None:
    """Return the account id in a webhook address' token (KEYID.ACCOUNT.GENERATION.SIGNATURE); None where none is."""
    parts = urlsplit(url).path.rstrip("/").rpartition("/")[2].split(".")
    return int(parts[1]) if len(parts) == 4 and parts[1].isascii() and parts[1].isdecimal() else None


def summary(plan: Plan, counts: Counts, seconds: float) -> str:
    """Return the last line: what was sent and what became of it. It holds nothing secret."""
    parts = [f"{counts.accepted} accepted"]
    parts += [f"{count} answered {status}" for status, count in sorted(counts.answers.items()) if status >= 300]
    parts += [f"{counts.timed_out} timed out"] if counts.timed_out else []
    parts += [f"{count} not sent ({name})" for name, count in sorted(counts.failed.items())]
    parts += [f"{counts.abandoned} without an answer at the stop"] if counts.abandoned else []
    return (
        f"sent {counts.sent} in {seconds:.1f} s ({counts.sent / max(seconds, 0.001):.1f}/s): {', '.join(parts)}; "
        f"account {plan.account}, seed {plan.seed}"
    )


def refusal(counts: Counts) -> str | None:
    """Return why nothing was taken and what to do about it; None where something was, or nothing came to an end."""
    if counts.accepted or counts.ended == counts.abandoned:
        return None
    if counts.wrong_address:
        return "the webhook address is not valid: the gateway answered 404 to all. Make a new address at the gateway."
    if counts.failed and not counts.answers:
        return "the gateway cannot be reached: is it running, and is the address its own?"
    return "the gateway took none of the deliveries: its log says why."


def _address(url: str | None, settings: Settings) -> str:
    if url is None and settings.webhook_url is not None:
        url = settings.webhook_url.get_secret_value()
    if not url:
        raise click.UsageError(
            f"no webhook address: give --url or set {PREFIX}WEBHOOK_URL (`up` writes it to its env file)."
        )
    valid = False
    with contextlib.suppress(ValueError):  # its message would repeat the address
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    if not valid:
        raise click.UsageError("the webhook address is not an http:// or https:// address.")
    return url


def _account(account: int | None, url: str) -> int:
    named = token_account(url)
    if account is None:
        return named or DEFAULT_ACCOUNT
    if named is not None and named != account:
        raise click.UsageError(
            f"--account {account}: the webhook address belongs to account {named}, and bodies must name the same."
        )
    return account


def _run(plan: Plan, settings: Settings) -> Counts:
    sender = Sender(plan.url, plan.rate)

    async def main(stop: asyncio.Event) -> None:
        watching = asyncio.create_task(_watch(sender.counts, stop))
        try:
            await sender.run(islice(deliveries(plan.seed, plan.account), plan.count), stop)
        finally:
            watching.cancel()
            _clear_progress()

    # Lines below a warning would only break into the progress line.
    run(settings.model_copy(update={"log_level": "WARNING"}), "simulate", main)
    return sender.counts


async def _watch(counts: Counts, stop: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        if sys.stderr.isatty():
            line = f"sent {counts.sent}, accepted {counts.accepted}, refused or lost {counts.ended - counts.accepted}"
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)
        if counts.wrong_address and counts.ended >= _HOPELESS_AFTER:
            stop.set()  # a wrong address stays wrong


def _clear_progress() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
