"""How a process lives: it starts, serves HTTP, drains on SIGTERM and leaves within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.asgi import ASGIApp
from runtime.errors import StartError as StartError
from runtime.logs import logger, logging_to
from runtime.problem import Problem, guarded, raw_answer
from runtime.sentry import reporting
from runtime.settings import Settings, unknown_settings
from runtime.waiting import Stopped

log = logger(__name__)

DRAIN_SECONDS = 8.0
_REST_SECONDS = 0.5
HEAD_SECONDS = 10.0
HEAD_BYTES = 64 * 1024

_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals belong to the process, see run()


class _Protocol(HttpToolsProtocol):
    """Ends connections whose request head does not come, or does not end.

    The parser has no bounds of its own, and a head costs it more than its length.
    """

    _timer: asyncio.TimerHandle | None = None
    _head_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                detail = f"the head of a request has at most {HEAD_BYTES} bytes"
                self.transport.write(raw_answer(Problem(431, detail)))
                self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(raw_answer(Problem(400, "this is no HTTP request")))
        self.transport.close()

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._arm()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._disarm()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int, setting: str) -> AsyncIterator[int]:
    """Serve an ASGI app while the context lasts, and yield the port; on leaving, answers under way are finished.

    What the app raises is answered, too. Port 0 takes a free one. Raises StartError naming `setting` (with its _PORT or
    _HOST) where it cannot listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024, reuse_port=False)
    except OSError as error:
        wrong = (
            f"{setting}_PORT to a free port"
            if error.errno in _PORT_ERRORS
            else f"{setting}_HOST to an address of this machine"
        )
        raise StartError(f"cannot listen on {host}:{port} ({error.strerror}): set {wrong}") from None
    # asyncio itself sets this only on sockets that name their protocol: without it each answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        guarded(app),
        http=_Protocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:
            if task.done():
                await task
                raise StartError(f"the HTTP server on {host}:{port} ended at its start")
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=5)
        listener.close()


def run(settings: Settings, name: str, main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run one process until SIGTERM, Ctrl-C or its own end, and return its exit code.

    `main` gets an event that is set when it must drain; it has DRAIN_SECONDS to return, then it is cancelled (all
    work here is safe to break off). A second signal leaves at once. StartError gives exit code 2, any other error 1.
    """
    tune_collector()
    with logging_to(settings, process=name):
        if unknown := unknown_settings():
            log.warning("these settings are not known and have no effect", settings=unknown)
        try:
            with reporting(settings, name):
                return _run(main)
        except StartError as error:
            log.error(str(error))
            return 2
        except KeyboardInterrupt:
            return 130


def _run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    runner = asyncio.Runner(loop_factory=_loop_factory())
    try:
        return runner.run(_supervise(main))
    except StartError:
        raise
    except Exception:
        log.exception("the process failed")
        return 1
    finally:
        # The loop cannot be closed over tasks that do not end: asyncio would wait for them.
        if runner.run(_end_rest()):
            runner.close()


async def _end_rest() -> bool:
    """Cancel what main has left; False where something does not end, as libraries' tasks may while Kafka is away."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    return not rest or not (await asyncio.wait(rest, timeout=_REST_SECONDS))[1]


def tune_collector() -> None:
    """Let Python's cyclic garbage collector look seldom."""
    # Batches of thousands of small dictionaries make it look at everything again and again,
    # for half of a projector's time; nothing here makes cycles, so it may look seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _supervise(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(130)
        log.info("stopping")
        stop.set()
        # Libraries have threads and loops of their own that may not end while a server is away.
        last = threading.Timer(DRAIN_SECONDS + 1.5, os._exit, (0,))
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(number, on_signal)
    task = asyncio.create_task(main(stop))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopped], return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        await asyncio.wait([task], timeout=DRAIN_SECONDS)
    stopped.cancel()
    if not task.done():
        log.warning("not drained in time, leaving", seconds=DRAIN_SECONDS)
        task.cancel()
        await asyncio.wait([task], timeout=1)
        return 0
    with contextlib.suppress(Stopped):
        task.result()
    log.info("stopped")
    return 0
