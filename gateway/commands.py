"""`kommo-streams webhook-url`."""

from __future__ import annotations

import asyncio
import sys

import click
from aiokafka.errors import KafkaError

from gateway.tokens import Keyring, Token
from runtime.process import StartError
from runtime.settings import PREFIX, Settings, SettingsError, load_settings
from streams.accounts import AccountSettings, read_accounts, write_account


@click.command("webhook-url")
@click.option("--account", required=True, type=click.IntRange(1, 2**63 - 1), help="The account's id in Kommo.")
@click.option("--revoke", is_flag=True, help="Make all addresses of this account given out so far invalid first.")
@click.option("--quiet", is_flag=True, help="Print the address and nothing else.")
def webhook_url(account: int, revoke: bool, quiet: bool) -> None:
    """Print the address that an account's webhooks are sent to.

    Paste it into Kommo: Settings, Integrations, Web hooks. The address is a secret: whoever knows it can send
    deliveries of this account. --revoke ends all earlier addresses within a second and prints a new one.
    """
    try:
        settings = load_settings()
        url = asyncio.run(_address(settings, account, revoke))
    except (SettingsError, StartError) as error:
        click.echo(f"kommo-streams webhook-url: {error}", err=True)
        sys.exit(2)
    except (KafkaError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        click.echo(
            f"kommo-streams webhook-url: Kafka ({PREFIX}KAFKA_BOOTSTRAP_SERVERS) is away: {reason}. It knows which "
            "addresses are revoked.",
            err=True,
        )
        sys.exit(3)
    if revoke and not quiet:
        click.echo(f"All earlier addresses of account {account} are revoked. The new one:", err=True)
    click.echo(url)


async def _address(settings: Settings, account: int, revoke: bool) -> str:
    keys = Keyring.from_settings(settings)
    known = (await read_accounts(settings)).get(account)
    if revoke:
        known = AccountSettings(**{**known.model_dump(), "lowest_generation": known.lowest_generation + 1})
        await write_account(settings, account, known)
    return f"{settings.gateway_url}/webhooks/{keys.sign(Token(account, known.lowest_generation))}"
