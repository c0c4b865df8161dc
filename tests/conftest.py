"""A run of the tests: its folder, how properties are tried, and what every test starts from."""

from __future__ import annotations

import logging
import os
from collections import Counter
from typing import Any

import pytest
import structlog
from hypothesis import settings

from runtime.settings import PREFIX
from tests.support import properties  # noqa: F401 - registers the profiles
from tests.support.servers import begin_run, end_run

settings.load_profile("test")  # an option of the command line replaces it

_configure = structlog.configure


def _configure_without_cache(**options: Any) -> None:
    """A logger that was kept under one test's configuration would write past what a later test captures."""
    _configure(**{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure_without_cache
# A traceback drawn with every variable, as structlog does by default, costs a second; production has plain ones, too.
_RENDERER = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    processors=[*structlog.get_config()["processors"][:-1], _RENDERER],
)

pytest_plugins = ["tests.support.fixtures"]

for _name in [name for name in os.environ if name.startswith(PREFIX)]:
    del os.environ[_name]  # a test says itself what its settings are


def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: most tests wait, for a server or for a clock."""
    return max(1, (os.cpu_count() or 1) * 3 // 2)


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts the workers, or is the only one, makes the run's folder."""
    if not hasattr(config, "workerinput"):
        begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing of the run stays."""
    if not hasattr(config, "workerinput"):
        end_run()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what each tier cost: the seconds of all its tests with their fixtures, over all workers."""
    seconds: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                tier = next(iter(report.nodeid.split("/")[1:-1]), "no tier")
                seconds[tier] += report.duration
                tests[tier] += report.when == "call"
    if seconds:
        terminalreporter.section("tiers: seconds over all workers")
    for tier, total in seconds.most_common():
        terminalreporter.write_line(f"{total:7.1f} s  {tier} ({tests[tier]} tests)")
