"""The command `kommo-streams simulate`: Kommo accounts at work that post their webhooks to a gateway."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click

from runtime.process import run
from runtime.settings import PREFIX, Settings, SettingsError, load_settings
from simulator.addresses import AddressError, by_account
from simulator.company import DEFAULT_ACCOUNT, deliveries
from simulator.counts import Counts
from simulator.fleet import Fleet
from simulator.generations import GENERATIONS, NEWEST
from simulator.mischief import Mischief
from simulator.sender import Manner, Sender
from simulator.truth import Truth, write

_PROGRESS_SECONDS = 0.5
_HOPELESS_AFTER = 5  # refusals of the address itself, before which nothing was taken

_SHARE = click.FloatRange(0, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a simulation does: `count` new deliveries, None sends until it is stopped. `years` are those of formats."""

    addresses: Mapping[int, str]
    seed: int
    count: int | None
    years: Sequence[int]
    manner: Manner
    truth: Path | None


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(0, 10_000, min_open=True),
    default=2.0,
    show_default=True,
    help="New deliveries a second, of all accounts together.",
)
@click.option("--seed", type=click.IntRange(0), help="Which company and what happens in it.  [default: a new one]")
@click.option("--count", type=click.IntRange(1), help="Stop after so many new deliveries.  [default: until stopped]")
@click.option("--accounts", type=click.IntRange(1), help="How many accounts.  [default: one for each address]")
@click.option(
    "--account",
    type=click.IntRange(1, 2**63 - 1),
    help=f"Account id, where there is one address.  [default: that of the address, or {DEFAULT_ACCOUNT}]",
)
@click.option(
    "--url",
    multiple=True,
    help="Webhook address, or @FILE with one a line. Give it again for each account: an address is signed for one."
    f"  [default: those in {PREFIX}WEBHOOK_URL, which keeps them out of the process list]",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=1.0,
    show_default=True,
    help="Kommo's seconds a second: second attempts, delays and what follows from something come so much sooner.",
)
@click.option("--repeats", type=_SHARE, default=0.0, help="Share of deliveries that are sent again though accepted.")
@click.option("--reorderings", type=_SHARE, default=0.0, help="Share that comes 1 to 90 seconds late, after others.")
@click.option("--delays", type=_SHARE, default=0.0, help="Share that comes 5 to 95 minutes late.")
@click.option("--losses", type=_SHARE, default=0.0, help="Share that is never sent.")
@click.option("--garbage", type=_SHARE, default=0.0, help="Share that has a body that is no webhook beside it.")
@click.option(
    "--year",
    "years",
    multiple=True,
    type=click.Choice([str(year) for year in GENERATIONS]),
    help=f"Format of bodies, by the year it was seen in; given again: they are mixed.  [default: {NEWEST}]",
)
@click.option(
    "--truth",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file at the end, as JSON, what the tables must hold then.",
)
def simulate(
    rate: float,
    seed: int | None,
    count: int | None,
    accounts: int | None,
    account: int | None,
    url: tuple[str, ...],
    speed: float,
    repeats: float,
    reorderings: float,
    delays: float,
    losses: float,
    garbage: float,
    years: tuple[str, ...],
    truth: Path | None,
) -> None:
    """Post the webhooks of simulated Kommo accounts to a gateway.

    It keeps Kommo's rules: an answer below 300 within 2 seconds is success, else there are up to five attempts within
    95 minutes, and after more than 100 failures in 2 hours nothing more is sent for that account. At the end it waits
    for the attempts that are due, unless the gateway took nothing at all; Ctrl-C stops it at once.

    \b
    What people do in a small company, until Ctrl-C:
        kommo-streams simulate
    All that can go wrong, an hour of Kommo's in a minute, and what must come of it:
        kommo-streams simulate --count 500 --rate 50 --speed 60 --repeats 0.1 --reorderings 0.1 \\
            --delays 0.05 --garbage 0.02 --truth truth.json

    Ends with a line of counts: of the requests sent how many were new, repeated on request, retried by Kommo's rules,
    or garbage; what was answered; and what was lost on request. Exit code: 0 sent (also when stopped), 1 the gateway
    took none, all accounts were disabled, or the truth could not be written, 2 wrong arguments.
    """
    seed = secrets.randbelow(2**31) if seed is None else seed
    try:
        settings = load_settings()
        addresses = by_account(url, settings, accounts, account)
    except (SettingsError, AddressError) as error:
        raise click.UsageError(str(error)) from None
    if truth is not None and not truth.absolute().parent.is_dir():
        raise click.UsageError(f"--truth: there is no folder {truth.absolute().parent}; make it first.")
    mischief = Mischief(repeats=repeats, reorderings=reorderings, delays=delays, losses=losses, garbage=garbage)
    manner = Manner(rate=rate, speed=speed, mischief=mischief, seed=seed)
    plan = Plan(addresses, seed, count, [int(year) for year in years] or [NEWEST], manner, truth)
    sys.exit(_simulate(plan, settings))


def _simulate(plan: Plan, settings: Settings) -> int:
    began = time.monotonic()
    truth = Truth() if plan.truth else None
    disabled: list[int] = []
    counts = _run(plan, settings, truth, disabled)
    accounts = ", ".join(str(account) for account in plan.addresses)
    named = f"account{'s' * (len(plan.addresses) > 1)} {accounts}"
    click.echo(f"{counts.summary(time.monotonic() - began)}; {named}, seed {plan.seed}")
    complaints = [counts.complaint()]
    if len(disabled) == len(plan.addresses):
        complaints.append("all webhooks were disabled: mend the gateway, its log says what was wrong, and start again.")
    if truth is not None and plan.truth is not None:
        try:
            write(plan.truth, truth)
        except OSError as error:
            complaints.append(f"the truth could not be written: {error}")
    for complaint in filter(None, complaints):
        click.echo(complaint, err=True)
    return 1 if any(complaints) else 0


def _run(plan: Plan, settings: Settings, truth: Truth | None, disabled: list[int]) -> Counts:
    streams = {
        account: deliveries(plan.seed + number, account, years=plan.years, pace=plan.manner.speed)
        for number, account in enumerate(plan.addresses)
    }
    fleet = Fleet(streams, plan.seed)

    def disable(account: int) -> None:
        fleet.leave(account)
        disabled.append(account)
        _clear_progress()
        click.echo(
            f"account {account}: Kommo has disabled the webhook after more than 100 failures in 2 hours.", err=True
        )

    sender = Sender(plan.addresses, plan.manner, truth=truth, on_disabled=disable)

    async def main(stop: asyncio.Event) -> None:
        watching = asyncio.create_task(_watch(sender, stop))
        try:
            await sender.run(islice(fleet, plan.count), stop)
        finally:
            watching.cancel()
            _clear_progress()

    # Lines below a warning would only break into the progress line.
    run(settings.model_copy(update={"log_level": "WARNING"}), "simulate", main)
    return sender.counts


async def _watch(sender: Sender, stop: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        counts = sender.counts
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{_progress(sender)}", nl=False, err=True)
        if counts.wrong_address and counts.ended >= _HOPELESS_AFTER:
            stop.set()  # a wrong address stays wrong


def _progress(sender: Sender) -> str:
    """Return a line that fits into the terminal: a longer one could not be written over."""
    counts = sender.counts
    line = f"sent {counts.sent}: {counts.kinds()}; {counts.accepted} accepted"
    line += f", {counts.ended - counts.accepted} refused or unanswered" if counts.ended > counts.accepted else ""
    line += f"; {counts.lost} lost" if counts.lost else ""
    waiting, seconds = sender.waiting()
    line += f"; {waiting} waiting, the next for {seconds:.0f} s" if waiting else ""
    return line[: shutil.get_terminal_size().columns - 1]


def _clear_progress() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
