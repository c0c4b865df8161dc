"""`kommo-streams up`: the whole system on one machine, on embedded servers, until it is told to stop."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import secrets
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.rule import Rule

from service.embedded import EmbeddedError, EmbeddedServers, check_installed, leftovers
from service.embedded.envfile import NAME, read_env_file, write_env_file
from service.embedded.errors import CancelledStartError, explain_os_error, not_installed
from service.embedded.files import LOW_FREE, DirectoryLock, Secrets, prepare_directory
from service.embedded.parallel import run_all
from service.embedded.ports import HOST, PortBook
from service.embedded.progress import Progress, progress_for
from service.extras import WORKER, missing
from service.supervisor import Process, Supervisor, stop_all

INIT_LIMIT = 60.0
COMMAND_LIMIT = 30.0
READY_LIMIT = 45.0
"""Seconds for topics and tables, for a small command, and for our processes to be ready."""

_STEP = 0.2  # seconds
_STEPS_PER_ROTATION = 150

TOKEN = "KOMMO_STREAMS_DASHBOARD_TOKEN"  # noqa: S105 - a name
WEBHOOK = "KOMMO_STREAMS_WEBHOOK_URL"
_PROCESSES = ("gateway", "ingest", "projector", "worker", "dashboard")

_KOMMO = "simulate-api"
_KOMMO_DOOR = "/_simulator"
LEDGER = "simulated-kommo.jsonl"
"""What the demo's Kommo remembers: the file of its ledger in the data folder."""


class _Stop:
    """Set by Ctrl-C, SIGTERM or a closed terminal; a second signal changes nothing, since a stop is bounded."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.number: int | None = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        self.event.set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over for a while (only the main thread can)."""
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        if threading.current_thread() is not threading.main_thread():
            numbers = []
        old = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def run_up(data: Path, port: int | None, account: int, demo: bool = False) -> int:
    """Run everything on the folder `data` until a signal; gives the exit code.

    `port` is the dashboard's (the gateway gets the next), `account` the Kommo account of the printed webhook address,
    `demo` adds a simulated Kommo for it. Never raises for what a user can mend: one message on standard error, exit
    code 1.
    """
    console, stop = Console(), _Stop()
    with stop.listening():
        try:
            _Up(data, port, account, demo, console, stop).run()
        except CancelledStartError:
            pass
        except EmbeddedError as error:
            if stop.number is None:
                _print(Console(stderr=True), f"kommo-streams up: {error}")
                return 1
        except OSError as error:
            _print(Console(stderr=True), f"kommo-streams up: {explain_os_error(error, data)}")
            return 1
    return 0


def _print(console: Console, text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no reason to leave what is to be stopped
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _simulated_token(port: int, account: int) -> str:
    """A token that the simulated Kommo gives for an account, as `simulate-api --token` would. Raises EmbeddedError."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", f"{_KOMMO_DOOR}/token?account={account}")
        return str(json.loads(connection.getresponse().read())["token"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise EmbeddedError(f"The simulated Kommo gives no token for account {account}: {error!r}") from None
    finally:
        connection.close()


class _Up:
    """One run."""

    def __init__(self, data: Path, port: int | None, account: int, demo: bool, console: Console, stop: _Stop) -> None:
        self._data, self._port, self._account, self._demo = data, port, account, demo
        self._console, self._stop = console, stop
        self._processes: list[Process] = []
        self._supervisor: Supervisor | None = None
        self._environment: dict[str, str] = {}
        self._login = ""
        self._kommo: Process | None = None
        self._known_accounts: list[dict[str, Any]] = []
        self._obeys = False  # whether the account is connected to the demo's Kommo, so that commands can be tried

    def run(self) -> None:
        """Start, supervise, stop. Raises EmbeddedError and OSError."""
        check_installed()
        if package := missing(WORKER):
            raise not_installed(package)
        self._directory = prepare_directory(self._data)
        lock = DirectoryLock(self._directory)
        lock.acquire()
        try:
            if ended := leftovers.end(self._directory):
                said = "1 process" if ended == 1 else f"{ended} processes"
                _print(self._console, f"Ended {said} that a killed run on {self._directory} left.")
            self._run(lock)
        finally:
            lock.release()

    def _run(self, lock: DirectoryLock) -> None:
        ports = PortBook(self._directory)
        doors = ports.doors(self._port)
        with progress_for(self._console) as progress:
            servers = EmbeddedServers(self._directory, progress=progress, lock=lock, cancel=self._stop.event)
            self._warn_of_low_disk(progress)
            try:
                self._start(servers, ports, doors, progress)
            except BaseException:
                self._end(servers)
                raise
        try:
            self._summary()
            self._supervise()
        finally:
            _print(self._console, "Stopping ...")
            self._end(servers)
            _print(self._console, "Stopped.")

    def _warn_of_low_disk(self, progress: Progress) -> None:
        free = shutil.disk_usage(self._directory).free
        if free < LOW_FREE:
            progress.say(f"Only {free // 2**20} MB are free on the disk of {self._directory}.")

    def _start(self, servers: EmbeddedServers, ports: PortBook, doors: tuple[int, int], progress: Progress) -> None:
        self._environment = servers.start().environment() | self._settings(ports, doors)
        progress.begin("init", "Preparing topics and tables")
        self._command("init", capture=False).run(INIT_LIMIT, self._stop.event)
        progress.finish("init", "Topics and tables are ready")
        self._supervisor = Supervisor(self._directory, progress.say)
        self._supervisor.watch(*servers.processes)
        progress.begin("processes", "Starting gateway, ingest, projector, worker and dashboard")
        for name in _PROCESSES:
            self._launch(name, [name], int(self._environment[f"KOMMO_STREAMS_{name.upper()}_PORT"]))
        kommo_port = ports.get(_KOMMO) if self._demo else None
        self._ask_addresses(kommo_port)
        if kommo_port is not None:
            self._connect_account(kommo_port, progress)
        self._supervisor.wait_ready(self._processes, READY_LIMIT, self._stop.event)
        if self._stop.event.is_set():
            raise CancelledStartError
        progress.finish("processes", "All processes are ready")
        # not where our own processes listen: one more of them must not want the same port
        joining = {name: value for name, value in self._environment.items() if not name.endswith(("_HOST", "_PORT"))}
        write_env_file(self._directory, joining)
        if self._demo:
            self._launch("simulator", ["simulate", "--rate", "2"], None)
        self._supervisor.say = lambda text: _print(self._console, text)

    def _settings(self, ports: PortBook, doors: tuple[int, int]) -> dict[str, str]:
        kept = Secrets(self._directory)
        dashboard, gateway = doors
        settings = {
            "GATEWAY_HOST": HOST,
            "GATEWAY_PORT": str(gateway),
            "DASHBOARD_HOST": HOST,
            "DASHBOARD_PORT": str(dashboard),
            "INGEST_PORT": str(ports.get("ingest")),
            "PROJECTOR_PORT": str(ports.get("projector")),
            "WORKER_PORT": str(ports.get("worker")),
            "GATEWAY_KEYS": kept.get("gateway_keys", f"k1:{_key()}"),
            "TOKEN_KEYS": kept.get("token_keys", _key()),
            "GATEWAY_URL": f"http://{HOST}:{gateway}",
            "DASHBOARD_URL": f"http://{HOST}:{dashboard}",
        }
        return {f"KOMMO_STREAMS_{name}": value for name, value in settings.items()}

    def _launch(
        self, name: str, arguments: list[str], port: int | None, path: str = "/readyz", **extra: str
    ) -> Process:
        environment = {**self._environment, **extra}
        process = Process(name, arguments, directory=self._directory, environment=environment, port=port, path=path)
        process.start()
        self._processes.append(process)
        if self._supervisor is not None:
            self._supervisor.watch(process)
        return process

    def _command(
        self,
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        capture: bool = True,
        given: str | None = None,
    ) -> Process:
        name = "-".join(argument for argument in arguments[:2] if argument[0].isalpha())
        environment = {**self._environment, **(extra or {})}
        return Process(
            name, arguments, directory=self._directory, environment=environment, capture=capture, given=given
        )

    def _ask_addresses(self, kommo_port: int | None) -> None:
        """The webhook address, the dashboard's token and its one-time address, at once: each is a Python of its own.

        With a port, also start the demo's Kommo there, and ask which accounts are connected to one.
        """
        answers: dict[str, str] = {}

        def webhook() -> None:
            asked = self._command("webhook-url", "--account", str(self._account), "--quiet")
            answers[WEBHOOK] = self._answer(asked)
            if kommo_port is not None:
                arguments = ["--port", str(kommo_port), "--ledger", str(self._directory / LEDGER)]
                told = {WEBHOOK: answers[WEBHOOK]}
                self._kommo = self._launch(_KOMMO, [_KOMMO, *arguments], kommo_port, _KOMMO_DOOR, **told)

        def token() -> None:
            answers[TOKEN] = self._kept_token() or self._answer(
                self._command("token", "create", "--name", "up", "--accounts", "*", "--quiet")
            )

        def login() -> None:
            self._login = self._answer(self._command("dashboard-url", "--quiet"))

        def accounts() -> None:
            self._known_accounts = json.loads(self._answer(self._command("account", "list", "--json")))

        run_all([webhook, token, login, *([accounts] if kommo_port is not None else [])])
        self._environment |= {WEBHOOK: answers[WEBHOOK], TOKEN: answers[TOKEN]}

    def _connect_account(self, kommo_port: int, progress: Progress) -> None:
        """Connect the account to the demo's Kommo, unless it is already, or is connected to a real one."""
        assert self._supervisor is not None and self._kommo is not None  # noqa: S101, PT018 - _start made them
        self._supervisor.wait_ready([self._kommo], READY_LIMIT, self._stop.event)
        if self._stop.event.is_set():
            raise CancelledStartError
        url = f"http://{HOST}:{kommo_port}"
        known = next((row for row in self._known_accounts if int(row["account_id"]) == self._account), None)
        if known is not None and not known["base_url"].startswith(f"http://{HOST}:"):
            progress.say(f"Account {self._account} is connected to {known['base_url']}: the demo leaves it there.")
            return
        if known is None or known["base_url"] != url or known["why"]:
            command = ("account", "connect", "--url", url, "--token-file", "-")
            given = _simulated_token(kommo_port, self._account)
            self._command(*command, capture=False, given=given).run(COMMAND_LIMIT, self._stop.event)
        self._obeys = True

    def _answer(self, command: Process) -> str:
        answer = command.run(COMMAND_LIMIT, self._stop.event)
        if not answer or "\n" in answer:
            raise EmbeddedError(f"kommo-streams {command.name} gave no answer. Its log: {command.log}")
        return answer

    def _kept_token(self) -> str | None:
        kept = read_env_file(self._directory).get(TOKEN)
        if not kept:
            return None
        try:
            self._command("token", "check", extra={TOKEN: kept}).run(COMMAND_LIMIT, self._stop.event)
        except EmbeddedError:
            if self._stop.event.is_set():
                raise
            return None
        return kept

    def _summary(self) -> None:
        file = self._directory / NAME
        rows = {
            "Dashboard": self._login,
            "Webhook": self._environment[WEBHOOK],
            "Settings": f"set -a; . {shlex.quote(str(file))}; set +a",
            **({"Try": self._trial()} if self._obeys else {}),
            "Logs": str(self._directory / "log"),
            "Stop": "Ctrl-C" if sys.stdin is not None and sys.stdin.isatty() else "SIGTERM",
        }
        with contextlib.suppress(OSError, ValueError):
            self._console.print(Rule("kommo-streams is up"))
            for name, value in rows.items():  # unwrapped, so that an address can be clicked and copied
                self._console.print(f"  {name:<10} {value}", markup=False, highlight=False, soft_wrap=True)
            self._console.print(Rule())
            self._console.file.flush()

    def _trial(self) -> str:
        return f"kommo-streams command send create_lead --account {self._account} name='A deal' --wait 30"

    def _supervise(self) -> None:
        assert self._supervisor is not None  # noqa: S101 - _start made it
        for count in itertools.count(1):
            if self._stop.event.wait(_STEP):
                return
            self._supervisor.step()
            if count % _STEPS_PER_ROTATION == 0:
                self._supervisor.rotate_logs()

    def _end(self, servers: EmbeddedServers) -> None:
        """Our processes first, so that they can finish what they hold; then the servers. Within 9 s."""
        self._stop.event.set()
        steps: list[Callable[[], None]] = [lambda: stop_all(self._processes), servers.stop]
        if self._supervisor is not None:
            steps.insert(0, self._supervisor.close)
        with contextlib.ExitStack() as stack:  # each is done, whatever happens to another
            for step in reversed(steps):
                stack.callback(step)
