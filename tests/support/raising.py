"""What an action raises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest


async def raised(action: Awaitable[object]) -> Exception:
    """What waiting for it raises."""
    with pytest.raises(Exception) as caught:
        await action
    return caught.value


def raised_by(action: Callable[[], object]) -> Exception:
    """What calling it raises."""
    with pytest.raises(Exception) as caught:
        action()
    return caught.value
