"""`python -m bench`: run the benchmarks on embedded servers and print each figure beside its reference."""

from __future__ import annotations

import asyncio
import platform
import tempfile
import time
from pathlib import Path

import click
import uvloop

from bench import commands, decode, gateway, ingest, tables, way
from bench.report import Report
from bench.world import ROOT
from runtime.logs import logging_to
from runtime.settings import Settings
from service.embedded import Addresses, EmbeddedServers

NAMES = ("decode", "gateway", "ingest", "tables", "latency", "commands", "memory")
ON_SERVERS = set(NAMES) - {"decode"}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--rounds", default=5, show_default=True, help="Counted rounds of each comparison, after one warm-up.")
@click.option("--events", default=1_000_000, show_default=True, help="Deliveries of the memory run.")
@click.option("--write", is_flag=True, help="Replace the table in docs/benchmarks.md.")
def main(names: tuple[str, ...], rounds: int, events: int, write: bool) -> None:
    """Measure NAMES (all, if none is given). Run it alone: everything shares this machine's cores."""
    report, names = Report(), names or NAMES
    if "decode" in names:
        asyncio.run(decode.run(report, rounds))
    if ON_SERVERS.intersection(names):
        _on_servers(report, names, rounds, events)
    if write:
        _write(report)


def _on_servers(report: Report, names: tuple[str, ...], rounds: int, events: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ks-bench-") as directory:
        servers = EmbeddedServers(Path(directory) / "data")
        try:
            with logging_to(Settings(log_level="ERROR")):
                uvloop.run(_run(servers.start(), report, names, rounds, events))
        finally:
            servers.stop()


async def _run(addresses: Addresses, report: Report, names: tuple[str, ...], rounds: int, events: int) -> None:
    if "gateway" in names:
        await gateway.run(addresses, report, rounds)
    if "ingest" in names:
        await ingest.run(addresses, report, rounds)
    if "tables" in names:
        await tables.run(addresses, report, rounds)
    if "latency" in names:
        await way.latency(addresses, report)
    if "commands" in names:
        await commands.run(addresses, report, rounds)
    if "memory" in names:
        await way.memory(addresses, report, events)


def _write(report: Report) -> None:
    page = ROOT / "docs" / "benchmarks.md"
    before, _, rest = page.read_text().partition("<!-- figures -->\n")
    _, _, after = rest.partition("<!-- end of figures -->\n")
    machine = f"{_processor()}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    stamp = f"Measured on {time.strftime('%Y-%m-%d')}: {machine}, all servers on the same machine.\n\n"
    page.write_text(f"{before}<!-- figures -->\n{stamp}{report.markdown()}<!-- end of figures -->\n{after}")


def _processor() -> str:
    import os

    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return f"{os.cpu_count()} cores of {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} cores of {platform.processor() or 'an unknown kind'}"


if __name__ == "__main__":
    main()
