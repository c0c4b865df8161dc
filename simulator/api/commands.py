"""The command `kommo-streams simulate-api`: a Kommo that answers API v4, for clients to be tried against."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import click
import orjson

from runtime.errors import StartError
from runtime.process import run
from runtime.settings import PREFIX, SettingsError, load_settings
from simulator.addresses import AddressError, by_account
from simulator.api.catalogue import FIRST_USER
from simulator.api.clock import ApiClock
from simulator.api.kommo import Kommo
from simulator.api.ledger import LedgerError
from simulator.api.limits import KOMMOS_RATE, Limits
from simulator.api.mischief import NO_MISCHIEF, ApiMischief, MischiefError, read_mischief
from simulator.api.oauth import Integration, OAuth
from simulator.api.running import Running, simulated_kommo


class _Rate(click.ParamType):
    name = "rate|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if value is None or isinstance(value, float) or value == "none":
            return value
        try:
            rate = float(str(value))
        except ValueError:
            rate = 0.0
        if not 0 < rate <= 1_000_000:
            self.fail(f"{value} is no number of requests a second: 7, for example, or none", param, ctx)
        return rate


# What can go wrong is told once, where it is done; \b keeps its lines as they are.
_MISCHIEF = "\n\n".join(f"\b\n{part}" for part in inspect.cleandoc(ApiMischief.__doc__ or "").split("\n\n"))


@click.command(epilog=f"What --mischief and PUT /_simulator/mischief take:\n\n{_MISCHIEF}")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--rate-limit",
    type=_Rate(),
    default=KOMMOS_RATE,
    show_default=True,
    help="Requests a second of one account before it is answered 429; none: without limits.",
)
@click.option(
    "--retry-after", type=click.IntRange(0), default=1, show_default=True, help="Seconds, as the body of a 429 says."
)
@click.option(
    "--plain-429", is_flag=True, help="The body of a 429 is a page, no JSON, as a proxy before Kommo answers."
)
@click.option(
    "--block-after",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="So many answers of 429 in a minute, and the sender's address is blocked: 403 to all.",
)
@click.option(
    "--block-seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="For how long it is blocked."
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep what was done in this file, and begin with what it holds.  [default: it is forgotten at the end]",
)
@click.option(
    "--url",
    multiple=True,
    help="Webhook address that changes are told to, or @FILE with one a line; again for each account."
    f"  [default: those in {PREFIX}WEBHOOK_URL, if it is set]",
)
@click.option("--no-webhooks", is_flag=True, help=f"Tell nobody of changes, whatever {PREFIX}WEBHOOK_URL is.")
@click.option(
    "--account", type=click.IntRange(1, 2**63 - 1), help="Account id, where the one --url does not name its own."
)
@click.option(
    "--speed",
    type=click.FloatRange(0, 100_000, min_open=True),
    default=1.0,
    show_default=True,
    help="Kommo's seconds a second: second attempts of webhooks come so much sooner.",
)
@click.option("--mischief", help='What goes wrong, as JSON: \'{"answers_lost": 0.05, "server_errors": 0.1}\'.')
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of tokens, and of what goes wrong when."
)
@click.option("--token", "token_of", type=click.IntRange(1), help="Print a long-lived token of this account and leave.")
@click.option("--code", "code_of", type=click.IntRange(1), help="Print an authorization code of it as JSON and leave.")
@click.option("--user", type=click.IntRange(1), default=FIRST_USER, help="Whose.  [default: the account's admin]")
def simulate_api(
    port: int,
    host: str,
    rate_limit: float | str,
    retry_after: int,
    plain_429: bool,
    block_after: int,
    block_seconds: float,
    ledger: Path | None,
    url: tuple[str, ...],
    no_webhooks: bool,
    account: int | None,
    speed: float,
    mischief: str | None,
    seed: int,
    token_of: int | None,
    code_of: int | None,
    user: int,
) -> None:
    """Answer Kommo's API v4 and OAuth for any number of accounts, each made when its token is first seen.

    It keeps Kommo's rules (what is checked, paging, 7 requests a second, tokens that rotate), posts the webhooks that
    changes cause, lets go wrong what you ask for, and keeps a ledger of every effect that it really made.

    \b
    A client, a token for it, and a lead:
        kommo-streams simulate-api --port 8090 &
        TOKEN=$(kommo-streams simulate-api --token 16700680)
        curl http://127.0.0.1:8090/api/v4/leads -H "Authorization: Bearer $TOKEN" -d '[{"name": "A deal"}]'
        curl http://127.0.0.1:8090/_simulator/ledger
    Every twentieth answer is lost after the change was made, one of ten requests meets a 500:
        kommo-streams simulate-api --mischief '{"answers_lost": 0.05, "server_errors": 0.1}'
    Other mischief while it runs, and all else that can be asked of it:
        curl -X PUT http://127.0.0.1:8090/_simulator/mischief -d '{"down": true}'
        curl http://127.0.0.1:8090/_simulator

    It asks nobody at /_simulator who they are: leave --host as it is, unless only its users reach it.

    Exit code: 0 stopped, 1 the ledger cannot be used, 2 wrong arguments, or it cannot listen.
    """
    if token_of is not None or code_of is not None:
        click.echo(_minted(seed, token_of, code_of, user))
        return
    try:
        settings = load_settings()
        wanted = not no_webhooks and (url or settings.webhook_url is not None)
        addresses = by_account(url, settings, None, account) if wanted else {}
        trouble = _mischief(mischief)
    except (SettingsError, AddressError, MischiefError) as error:
        raise click.UsageError(str(error)) from None
    limits = Limits(
        rate=rate_limit if isinstance(rate_limit, float) else None,
        retry_after=retry_after,
        json_429=not plain_429,
        block_after=block_after,
        block_seconds=block_seconds,
    )
    broken: list[str] = []

    async def main(stop: asyncio.Event) -> None:
        try:
            async with simulated_kommo(
                addresses=addresses,
                limits=limits,
                mischief=trouble,
                ledger=ledger,
                seed=seed,
                speed=speed,
                host=host,
                port=port,
            ) as running:
                _say(running, seed)
                await stop.wait()
                click.echo(_summary(running.kommo), err=True)
        except LedgerError as error:
            broken.append(str(error))
        except StartError:
            raise StartError(f"cannot listen on {host}:{port}: give another --port or --host") from None

    # Below a warning a log has nothing to say that the lines here do not.
    code = run(settings.model_copy(update={"log_level": "WARNING"}), "simulate-api", main)
    for complaint in broken:
        click.echo(complaint, err=True)
    sys.exit(1 if broken else code)


def _say(running: Running, seed: int) -> None:
    click.echo(f"Kommo's API v4 is simulated at {running.base_url}")
    seeded = f" --seed {seed}" if seed else ""
    click.echo(f"a token: kommo-streams simulate-api{seeded} --token ACCOUNT; an authorization code: --code ACCOUNT")
    click.echo(f"what it did: {running.base_url}/_simulator/ledger; all else: {running.base_url}/_simulator")
    told = ", ".join(str(account) for account in running.kommo.addresses)
    click.echo(f"webhooks: {f'of account {told}' if told else 'none, no --url was given'}")
    if running.ledger.effects:
        click.echo(f"the ledger holds {len(running.ledger.effects)} effects of before")


def _summary(kommo: Kommo) -> str:
    answers = ", ".join(f"{count} answered {how}" for how, count in sorted(kommo.answers.items())) or "no requests"
    sent = kommo.postman.counts
    webhooks = f"; webhooks: {sent.accepted} of {sent.sent} accepted" if sent.sent else ""
    return f"{answers}; {len(kommo.ledger.effects)} effects in the ledger{webhooks}"


def _mischief(text: str | None) -> ApiMischief:
    if text is None:
        return NO_MISCHIEF
    try:
        return read_mischief(orjson.loads(text))
    except orjson.JSONDecodeError:
        raise MischiefError("--mischief is no JSON: '{\"server_errors\": 0.1}', for example") from None


def _minted(seed: int, token_of: int | None, code_of: int | None, user: int) -> str:
    """Return what a simulator with this seed takes as its own."""
    oauth = OAuth(seed, ApiClock(), Integration(), lambda entry: None)
    if token_of is not None:
        return oauth.long_lived(token_of, user)
    own, code = oauth.integration, oauth.code(code_of or 0, user)
    told = {"client_id": own.client_id, "client_secret": own.client_secret, "redirect_uri": own.redirect_uri}
    return orjson.dumps({"code": code, **told}).decode()
