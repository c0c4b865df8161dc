"""`kommo-streams decode` says what a body becomes: exactly what ingest writes, whatever else is in the same call."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runtime.settings import PREFIX
from schemas.catalogue import EVENT_TYPES
from schemas.decoder import decode
from schemas.delivery import MAX_BODY_BYTES, Delivery
from schemas.form import MAX_BRACKETS, MAX_DEPTH, MAX_NESTS, MAX_PAIRS, parse_form
from service.decode import decode as command
from tests.support import ROOT
from tests.support.webhooks import CORPUS, EXPECTED, bodies
from tests.unit.service.decoding import call, run

RECEIVED = "2026-09-21T14:13:20.123456Z"
RECEIVED_US = 1_790_000_000_123_456
PIPE = "2100-01-01T00:00:00Z"
GOOD = b"leads[add][0][id]=5&leads[add][0][last_modified]=1726580291"
STUB = b"leads[delete][0][id]=5"


def process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, for what only one shows; what it is told and says is tried in this process."""
    command = [sys.executable, "-m", "service", "decode", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def events(*arguments: str | Path, stdin: bytes = b"") -> list[dict[str, Any]]:
    code, lines, said = run(*arguments, stdin=stdin)
    assert (code, said) == (0, "")
    return [json.loads(line) for line in lines]


def written(folder: Path, **files: bytes) -> Path:
    for name, body in files.items():
        (folder / name).write_bytes(body)
        os.utime(folder / name, ns=(0, RECEIVED_US * 1000))
    return folder


# What it prints


def test_a_folder_s_bodies_become_the_events_that_ingest_writes(tmp_path: Path) -> None:
    folder = written(tmp_path, **{path.name: path.read_bytes() for path in bodies()})
    code, lines, said = run(folder)
    assert (code, said) == (0, "")
    wanted: list[bytes] = []
    for path, line in zip(bodies(), lines, strict=True):
        event = json.loads(line)
        delivery = Delivery(int(event["accountid"]), event["deliveryid"], RECEIVED_US, path.read_bytes())
        wanted += [event.value for event in decode(delivery).events]
    assert lines == wanted


def test_the_corpus_becomes_its_reviewed_events() -> None:
    reviewed = json.loads(EXPECTED.read_text(encoding="utf-8"))
    found = events("--received-at", RECEIVED, *bodies())
    for event, name in zip(found, reviewed, strict=True):
        [wanted] = reviewed[name]
        ours = ["deliveryid", "correlationid", *(["id"] if EVENT_TYPES[event["type"]].by_delivery else [])]
        assert {**event, **{name: wanted[name] for name in ours}} == wanted


def test_the_form_of_each_body_is_a_line(tmp_path: Path) -> None:
    folder = written(tmp_path, a=GOOD, b=b"x[y]=%D0%B6", c=b'{"a": [1]}', d=b"{=1", e=b"a=%FF")
    code, lines, said = run("--form", folder)
    assert (code, said) == (0, "")
    assert [json.loads(line) for line in lines] == [
        parse_form(GOOD),
        {"x": {"y": "ж"}},
        {"a": [1]},  # no form, and nested already
        {"{": "1"},
        {"a": "\\xff"},
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_new_line_at_the_end_is_no_part_of_the_body(end: bytes, tmp_path: Path) -> None:
    one, other = written(tmp_path, one=STUB, other=STUB + end) / "one", tmp_path / "other"
    assert run(one) == run(other)
    assert run("--form", other)[1] == [b'{"leads":{"delete":{"0":{"id":"5"}}}}']


# The facts of the request


def test_the_same_file_gives_the_same_output(tmp_path: Path) -> None:
    written(tmp_path, a=STUB, copy=STUB)
    first = run(tmp_path / "a")
    assert first == run(tmp_path / "a") == run(tmp_path / "copy")
    [event] = events(tmp_path / "a")
    assert (event["time"], event["sequence"]) == (RECEIVED, f"{RECEIVED_US}-000000")
    assert event["deliveryid"].startswith("decode-")
    (tmp_path / "other").write_bytes(STUB.replace(b"5", b"6"))
    assert events(tmp_path / "other")[0]["deliveryid"] != event["deliveryid"]


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ("2026-01-31T09:30:00Z", "2026-01-31T09:30:00Z"),
        ("2026-01-31 09:30", "2026-01-31T09:30:00Z"),
        ("2026-01-31T09:30:00.5+03:00", "2026-01-31T06:30:00.500000Z"),
    ],
)
def test_received_at(given: str, time: str, tmp_path: Path) -> None:
    assert events("--received-at", given, written(tmp_path, a=STUB))[0]["time"] == time


@pytest.mark.parametrize("given", ["", "x", "0", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "9999-01-01"])
def test_a_time_that_is_none_is_a_wrong_argument(given: str, tmp_path: Path) -> None:
    code, lines, said = run("--received-at", given, written(tmp_path, a=STUB))
    assert (code, lines) == (2, [])
    assert "--received-at" in said


def test_a_time_before_1970_or_far_ahead_on_a_file_is_no_obstacle(tmp_path: Path) -> None:
    for name, seconds in (("a", 0), ("b", -5), ("c", 9_999_999_999)):
        written(tmp_path, **{name: STUB})
        os.utime(tmp_path / name, (0, seconds))
    assert [event["time"][:4] for event in events(tmp_path)] == ["1970", "1970", "2112"]


def test_whose_account_it_is(tmp_path: Path) -> None:
    named = b"account[id]=31337&" + GOOD
    token = (
        '{"token":"e30.eyJhY2NvdW50X2lkIjozMTMzN30.x","data":{},"return_url":"https://a.kommo.com/api/v4/salesbot/1/'
        'continue/2"}'
    )
    folder = written(tmp_path, a=named, b=GOOD, c=token.encode(), d=b"account[id]=99999999999999999999&x=1")
    code, lines, said = run(folder)
    assert [json.loads(line)["accountid"] for line in lines] == ["31337", "16700680", "31337"]
    assert code == 1
    assert "/d: the body names account 99999999999999999999" in said
    assert "(authorization)" in said
    code, lines, said = run("--account", "31337", folder / "a", folder / "b")
    assert (code, [json.loads(line)["accountid"] for line in lines], said) == (0, ["31337"] * 2, "")


def test_a_body_of_another_account_than_that_given(tmp_path: Path) -> None:
    folder = written(tmp_path, a=b"account[id]=31337&" + GOOD)
    code, lines, said = run("--account", "7", folder)
    assert (code, lines) == (1, [])
    assert f"{folder}/a: the body names account 31337, the webhook address belongs to 7 (authorization)" in said


# Standard input


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input(arguments: list[str]) -> None:
    [event] = events(*arguments, stdin=STUB + b"\n")
    assert (event["subject"], event["time"], event["timesource"]) == ("lead/5", PIPE, "received")
    assert events(*arguments, stdin=GOOD)[0]["time"] == "2024-09-17T13:38:11Z"


def test_standard_input_between_files_and_from_a_file(tmp_path: Path) -> None:
    written(tmp_path, a=GOOD, b=STUB)
    found = events(tmp_path / "a", "-", tmp_path / "b", stdin=b"task[delete][0][id]=9")
    assert [event["subject"] for event in found] == ["lead/5", "task/9", "lead/5"]
    with (tmp_path / "b").open("rb") as file:
        out = subprocess.check_output([sys.executable, "-m", "service", "decode"], cwd=ROOT, stdin=file)
    assert json.loads(out)["time"] == RECEIVED


def test_a_closed_standard_input() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m service decode <&-', sys.executable], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kommo-streams decode: standard input: is closed\n"


# What cannot be decoded, and what cannot be read


def test_a_rejection_names_all_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = written(tmp_path, a=GOOD + b"&leads[add][1][id]=x&task[delete]=9", b=b"", c=STUB)
    code, lines, said = run(folder)
    assert code == 1
    assert [json.loads(line)["subject"] for line in lines] == ["lead/5", "task/9", "lead/5"]
    assert said.splitlines() == [
        f"kommo-streams decode: {folder}/a: leads[add][1]: a lead with the 'x' as id (validation)",
        f"kommo-streams decode: {folder}/b: an empty body (validation)",
    ]
    code, lines, said = run("--form", folder)
    assert (code, len(lines), said) == (1, 2, f"kommo-streams decode: {folder}/b: an empty body (validation)\n")


BOUNDS = {
    "size": (b"a" * (MAX_BODY_BYTES + 1), f"a body of more than {MAX_BODY_BYTES} bytes"),
    "size, by far": (b"a" * (5 * MAX_BODY_BYTES), f"a body of more than {MAX_BODY_BYTES} bytes"),
    "pairs": (b"&" * MAX_PAIRS, f"more than {MAX_PAIRS} pairs in one body"),
    "depth": (b"a" + b"[b]" * MAX_DEPTH + b"=1", f"a key nested deeper than {MAX_DEPTH} levels"),
    "json": (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", f"JSON nested deeper than {MAX_DEPTH} levels"),
    "nests": (b"a[][][]=1&" * (MAX_NESTS // 2 + 1), f"more than {MAX_NESTS} nested keys in one body"),
    "brackets": (b"a=" + b"[" * (MAX_BRACKETS + 1), f"more than {MAX_BRACKETS} brackets in one body"),
    "json nests": (b"[" + b"{}," * MAX_NESTS + b"1]", f"JSON of more than {MAX_NESTS} nested values"),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_body_past_a_bound(name: str, tmp_path: Path) -> None:
    body, reason = BOUNDS[name]
    folder = written(tmp_path, a=body, b=STUB)
    for form in ((), ("--form",)):
        code, lines, said = run(*form, folder)
        assert (code, len(lines), said) == (1, 1, f"kommo-streams decode: {folder}/a: {reason} (validation)\n")


def test_as_large_as_allowed(tmp_path: Path) -> None:
    folder = written(tmp_path, a=b"a=" + b"x" * (MAX_BODY_BYTES - 2) + b"\n")
    assert len(events(folder)) == 1


def test_files_that_cannot_be_read_are_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    written(tmp_path, a=STUB, b=b"")
    names = [tmp_path / "none", tmp_path / "a", "/proc/self/mem", tmp_path / "empty", tmp_path / "b", tmp_path / "a"]
    code, lines, said = run(*names)
    assert (code, len(lines)) == (2, 2)
    assert [line.removeprefix("kommo-streams decode: ") for line in said.splitlines()] == [
        f"{tmp_path}/none: No such file or directory",
        "/proc/self/mem: Input/output error",
        f"{tmp_path}/empty: a folder without files",
        f"{tmp_path}/b: an empty body (validation)",
    ]


@pytest.mark.parametrize("form", [(), ("--form",)])
@pytest.mark.parametrize(
    ("body", "looks", "more"),
    [
        (b"hello world\n", "plain text", ""),
        (b"<html><body>504</body></html>", "HTML or XML", ""),
        (GOOD + b"\n" + GOOD, "several lines of text", "control character 0x0a at position 59"),
        (b'{"token":"x","data":{"ask":1},"return_u', "cut off at its end", "line 1 column 40"),
        (b'{"a":1}\n{"a":2}', "broken", "line 2 column 1"),
    ],
)
def test_what_is_no_webhook_is_said_to_be_what_it_looks_like_and_what_to_do(
    body: bytes, looks: str, more: str, form: tuple[str, ...], tmp_path: Path
) -> None:
    code, lines, said = run(*form, written(tmp_path, a=body, b=STUB))
    assert (code, len(lines), said.count("\n")) == (1, 1, 1)
    assert said.startswith(f"kommo-streams decode: {tmp_path}/a: ")
    assert f"it looks {looks}" in said or f"it looks like {looks}" in said
    assert more in said
    assert "leads[add][0][id]=5&..., or a salesbot's JSON" in said


# Exit codes

CODES: dict[str, tuple[int, str]] = {
    "good": (0, ""),
    "folder": (0, ""),
    "empty": (1, "an empty body (validation)"),
    "blank": (1, "an empty body (validation)"),
    "none": (2, "No such file or directory"),
    "no-files": (2, "a folder without files"),
    "closed": (2, "Permission denied"),
    "closed-folder": (2, "Permission denied"),
    "folder-that-lists-alone": (2, "Permission denied"),
    "folder-with-a-link-to-nothing": (2, "No such file or directory"),
    "": (2, "a name is empty"),
}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    for name in ("folder", "no-files", "closed-folder", "folder-that-lists-alone", "folder-with-a-link-to-nothing"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder-with-a-link-to-nothing" / "a").symlink_to(tmp_path / "nothing")
    for path, body in (("good", GOOD), ("empty", b""), ("blank", b"\r\n"), ("closed", GOOD), ("folder/a", GOOD)):
        (tmp_path / path).write_bytes(body)
    for folder in ("closed-folder", "folder-that-lists-alone"):
        (tmp_path / folder / "a").write_bytes(GOOD)
    modes = {"closed": 0, "closed-folder": 0, "folder-that-lists-alone": 0o400}
    for name, mode in modes.items():
        (tmp_path / name).chmod(mode)
    yield tmp_path
    for name in modes:
        (tmp_path / name).chmod(0o700)


def test_exit_codes(files: Path) -> None:
    calls = [(form, name) for form in ((), ("--form",)) for name in CODES]
    command = [sys.executable, "-m", "tests.unit.service.decoding"]
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything, and there is no setpriv to give that away")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    asked = json.dumps([[*form, str(files / name) if name else ""] for form, name in calls])
    told = json.loads(subprocess.check_output(command, cwd=ROOT, input=asked, text=True, timeout=60))
    for (form, name), (ended, lines, said) in zip(calls, told, strict=True):
        code, why = CODES[name]
        assert (ended, why in said, lines) == (code, True, int(code == 0)), (form, name, said)
        if name and code:
            assert said.count("\n") == 1
            assert said.startswith(f"kommo-streams decode: {files / name}")


def test_the_process_ends_with_the_code_and_says_what_this_one_does(tmp_path: Path) -> None:
    folder = written(tmp_path, a=GOOD, b=b"")
    done = process(folder)
    assert (done.returncode, done.stdout.encode().splitlines(), done.stderr) == run(folder)
    assert done.returncode == 1


def test_of_several_reasons_the_worst_gives_the_exit_code(files: Path) -> None:
    assert [run(files / a, files / b)[0] for a, b in (("good", "empty"), ("none", "empty"), ("empty", "none"))] == [
        1,
        2,
        2,
    ]


@pytest.mark.parametrize("form", [(), ("--form",)])
def test_nothing_given_on_a_terminal_is_said_at_once(form: tuple[str, ...]) -> None:
    ours, theirs = os.openpty()
    try:
        os.write(ours, b"\x04")  # so that one who read would not wait
        with os.fdopen(theirs) as terminal:
            code, lines, said = call(terminal, *form)
    finally:
        os.close(ours)
    assert (code, lines) == (2, [])
    assert said.startswith("kommo-streams decode: nothing to read: name a FILE or a folder, ")
    assert run(*form, stdin=b"")[0] == 1  # from a pipe it is an empty body


def test_a_body_may_be_typed_on_a_terminal() -> None:
    ours, theirs = os.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal:
        terminal.write(GOOD + b"\n\x04")
        done = subprocess.run(
            [sys.executable, "-m", "service", "decode", "-"], cwd=ROOT, stdin=theirs, capture_output=True, timeout=60
        )
        os.close(theirs)
    assert (done.returncode, json.loads(done.stdout)["subject"]) == (0, "lead/5")


def test_a_folder_s_files_in_their_order_and_no_folder_in_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    written(tmp_path, **{name: b"leads[delete][0][id]=%d" % (9 - int(name)) for name in ("3", "1", "2")})
    assert [event["subject"] for event in events(tmp_path)] == ["lead/8", "lead/7", "lead/6"]


def test_a_fault_of_the_decoder_is_said_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(delivery: Delivery) -> Any:
        if delivery.body != STUB:
            raise KeyError("x")
        return decode(delivery)

    monkeypatch.setattr("schemas.decoder.decode", faulty)
    folder = written(tmp_path, a=GOOD, b=STUB)
    result = CliRunner().invoke(command, [str(folder)])
    assert result.exit_code == 1
    assert result.stderr == f"kommo-streams decode: {folder}/a: KeyError in the decoder (internal)\n"
    assert len(result.stdout.splitlines()) == 1


def test_a_body_sends_nothing_to_the_terminal(tmp_path: Path) -> None:
    body = b"account[id]=%1B[2J%0Akommo&x=1&leads[%1B[31m][0][id]=1"
    code, lines, said = run(written(tmp_path, a=body))
    assert (code, lines) == (1, [])
    assert said.count("\n") == 1
    assert "\x1b" not in said


# How it runs


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    many = b"&".join(b"leads[delete][%d][id]=%d" % (number, number + 1) for number in range(5000))
    folder = written(tmp_path, **dict.fromkeys("abc", many))
    line = f"'{sys.executable}' -m service decode {folder} | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_no_settings_are_read(tmp_path: Path) -> None:
    wrong = {f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS": "", f"{PREFIX}NONE": "x"}
    done = process(written(tmp_path, a=STUB), **wrong)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


def imported(*arguments: str | Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "service", "decode", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_it_imports_only_what_it_needs() -> None:
    body = CORPUS / "036-leads-update.form"
    servers = {
        "runtime",
        "streams",
        "gateway",
        "agents",
        "dashboard",
        "asyncio",
        "aiokafka",
        "asyncpg",
        "httpx",
        "redis",
    }
    assert not imported(body) & {*servers, "fastapi", "uvicorn", "simulator", "pydantic_settings"}
    assert not imported("--form", body) & {*servers, "pydantic", "pydantic_core"}


def test_a_pipe_in_a_folder_is_no_body_to_wait_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a-pipe")
    written(tmp_path, good=GOOD)
    code, lines, said = run(tmp_path)
    assert (code, len(lines), said) == (0, 1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_output_that_cannot_be_written_is_said_in_a_line(tmp_path: Path) -> None:
    written(tmp_path, good=GOOD)
    for output, why in ((" > /dev/full", "cannot be written: No space left"), (" >&-", "no standard output")):
        done = subprocess.run(
            f"'{sys.executable}' -m service decode '{tmp_path}'{output}",
            shell=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert why in done.stderr
