"""What the extra `worker` is, in the code and for the installer."""

from __future__ import annotations

import re
import tomllib

from service.extras import WORKER
from tests.support import ROOT


def test_the_packages_are_those_of_the_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.split(r"[^\w-]", text, maxsplit=1)[0] for text in project["optional-dependencies"]["worker"]}
    assert set(WORKER.values()) <= extra
