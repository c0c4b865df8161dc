"""The image: what goes into it, who it runs as, and what a process in it is reached by."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch

from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


DOCKERFILE = instructions()
LAST_STAGE = DOCKERFILE[max(place for place, (name, _) in enumerate(DOCKERFILE) if name == "FROM") :]


def arguments(name: str, where: list[tuple[str, str]] = DOCKERFILE) -> list[str]:
    return [text for instruction, text in where if instruction == name]


def ignore_rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path into the build; the last rule that fits counts, a folder's for all in it."""
    sent = True
    parts = path.split("/")
    for rule in ignore_rules():
        pattern = rule.removeprefix("!")
        anywhere = pattern.startswith("**/")
        pattern = pattern.removeprefix("**/")
        fits = any(fnmatch(part, pattern) for part in parts) if anywhere else fnmatch(parts[0], pattern)
        if fits:
            sent = rule.startswith("!")
    return sent


def test_the_installation_runs_on_the_python_it_was_made_with() -> None:
    build, last = arguments("FROM")
    assert build == f"{last} AS build"


def test_it_does_not_run_as_root_and_says_so_by_number() -> None:
    (user,) = arguments("USER", LAST_STAGE)
    assert re.fullmatch(r"[1-9][0-9]{3,}:[1-9][0-9]{3,}", user)
    assert [name for name, _ in LAST_STAGE].index("USER") < [name for name, _ in LAST_STAGE].index("ENTRYPOINT")


def test_the_entry_is_the_command_line_without_a_shell_that_would_keep_signals_from_it() -> None:
    assert [json.loads(text) for text in arguments("ENTRYPOINT", LAST_STAGE)] == [["kommo-streams"]]
    assert "kommo-streams" in PROJECT["project"]["scripts"]


def test_nothing_is_fetched_from_an_address() -> None:
    assert not arguments("ADD")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^/'\"\s]+", text)) == {"http://127.0.0.1:8080"}
    assert not re.search(r"curl|wget|--index-url|--trusted-host", text)


def test_versions_are_the_tested_ones_and_the_servers_stay_out() -> None:
    wheel, _, install = (json.loads(text) for text in arguments("RUN"))
    assert wheel[wheel.index("-c") + 1] == "constraints.txt"
    assert "--no-index" in install  # from the wheels just built: a package of our name elsewhere cannot come in
    assert (wheel[-1], install[-1]) == (".[worker]", "kommo-streams[worker]")
    assert not any("embedded" in part for part in wheel + install)


def test_all_that_goes_in_has_a_tested_version() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = {_name(text) for text in PROJECT["project"]["dependencies"] + extras["worker"]}
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(wanted - {_name(line) for line in constraints if "==" in line}) == []


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_no_secret_is_built_in() -> None:
    assert not arguments("ARG")
    assert not re.search(r"PASSWORD|TOKEN|_KEYS|SECRET", " ".join(arguments("ENV")))


def test_the_health_check_asks_the_port_all_processes_listen_on() -> None:
    (health,) = arguments("HEALTHCHECK", LAST_STAGE)
    program = json.loads(health.partition("CMD ")[2])[2]
    compile(program, "HEALTHCHECK", "exec")
    (url,) = re.findall(r"http://[^']+", program)
    assert url == "http://127.0.0.1:8080/livez"
    environment = dict(part.split("=", 1) for text in arguments("ENV", LAST_STAGE) for part in text.split())
    ports = {name: value for name, value in environment.items() if name.endswith("_PORT")}
    hosts = {name: value for name, value in environment.items() if name.endswith("_HOST")}
    assert len(ports) == len(hosts) == 5
    assert set(ports.values()) == {"8080"} == set(arguments("EXPOSE", LAST_STAGE))
    assert set(hosts.values()) == {"0.0.0.0"}


def test_the_build_gets_the_packages_and_nothing_else() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert ignore_rules()[0] == "*"
    allowed = {rule.removeprefix("!") for rule in ignore_rules() if rule.startswith("!")}
    assert allowed == {*packages, "pyproject.toml", "README.md", "LICENSE", "constraints.txt"}
    assert [name for name in sorted(allowed) if not (ROOT / name).exists()] == []


def test_what_is_secret_or_of_this_machine_stays_out() -> None:
    for path in (
        ".env",
        ".git/config",
        ".venv/pyvenv.cfg",
        "tests/x.py",
        "data/kommo-streams.env",
        "deploy/.env.example",
        "runtime/__pycache__/logs.cpython-311.pyc",
        "runtime/.env",
        "schemas/old.pyc",
    ):
        assert not is_sent(path), path
    for path in ("pyproject.toml", "constraints.txt", "service/cli.py", "dashboard/0001_access.sql"):
        assert is_sent(path), path


def test_only_the_installation_comes_over_from_the_build() -> None:
    assert arguments("COPY", LAST_STAGE) == ["--from=build /opt/kommo-streams /opt/kommo-streams"]
