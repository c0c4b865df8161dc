"""How properties are tried: as often as the run's profile says, never with numbers in tests.

`pytest --hypothesis-profile=soak` takes ten times the examples, other ones each time; `quick` a few. The profile `test`
is what a run has without the option: the same examples each time, so that no landing fails by luck.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_ANY = settings(
    database=None,
    deadline=None,  # a busy machine is no fault
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", _ANY, max_examples=50)
settings.register_profile("test", _ANY, max_examples=200)
settings.register_profile("soak", _ANY, max_examples=2000, derandomize=False)


def in_postgres() -> settings:
    """For a property whose every example writes tables: a fifth of the examples."""
    return settings(max_examples=settings.default.max_examples // 5)
