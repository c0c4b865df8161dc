"""Kafka's jars: resolved by jgo, fetched once into the user's cache, whole or absent, and used offline from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from service.embedded.errors import CancelledStartError, EmbeddedError, explain_os_error, not_installed
from service.embedded.files import write_atomically
from service.embedded.parallel import run_all
from service.embedded.progress import Progress

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

KAFKA_VERSION = "4.3.0"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
LOGGER = ("org.slf4j", "slf4j-simple", "1.7.36")  # Kafka brings the interface only; without it a failure says nothing

REPOSITORY_SETTING = "KOMMO_STREAMS_MAVEN_REPOSITORY"
FETCH_LIMIT = 600.0
"""Seconds for the whole fetch (46 MB)."""

_ATTEMPTS = 3
_AT_ONCE = 4


def cache_directory() -> Path:
    """Where the jars are kept for all data folders of this user."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    else:
        base = Path(os.path.expanduser("~")) / ".cache"
    return base / "kommo-streams"


def kafka_jars(fallback: Path, progress: Progress, cancel: threading.Event) -> list[Path]:
    """The class path of the Kafka server; fetches what is missing.

    `fallback` is a folder for the jars when the user has no cache that can be written in. Raises EmbeddedError.
    """
    home = cache_directory()
    for cache in (home, fallback):
        jars = _kept(cache)
        if jars is not None:
            return jars
    cache = home if _writable(home) else fallback
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return _Fetch(cache, progress, cancel).run()
    except OSError as error:
        raise explain_os_error(error, cache) from error


def _writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe.{os.getpid()}.{threading.get_ident()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _list_file(cache: Path) -> Path:
    return cache / f"kafka-{KAFKA_VERSION}.json"


def _kept(cache: Path) -> list[Path] | None:
    """The jars of an earlier fetch, if each is there with the size it had."""
    try:
        kept: dict[str, int] = json.loads(_list_file(cache).read_text(encoding="utf-8"))["jars"]
        jars = [(cache / name, size) for name, size in kept.items()]
        if jars and all(path.stat().st_size == size for path, size in jars):
            return [path for path, _ in jars]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None


class _Fetch:
    """One fetch: resolve the list, then bring the files, several at a time."""

    def __init__(self, cache: Path, progress: Progress, cancel: threading.Event) -> None:
        self._cache, self._progress, self._cancel = cache, progress, cancel
        self._limit = time.monotonic() + FETCH_LIMIT
        self.repository = os.environ.get(REPOSITORY_SETTING, "").rstrip("/")

    def run(self) -> list[Path]:
        try:
            from jgo.constants import MAVEN_CENTRAL_URL
            from jgo.maven import MavenContext
        except ImportError as error:
            raise not_installed("jgo") from error

        logging.getLogger("jgo").setLevel(logging.ERROR)
        self.repository = self.repository or MAVEN_CENTRAL_URL
        self._progress.begin("jars", f"Fetching Kafka {KAFKA_VERSION} (46 MB, once)")
        context = MavenContext(
            resolver=_resolver(self),
            repo_cache=self._cache / "maven",
            remote_repos={"repository": self.repository},
        )
        try:
            with httpx.Client(timeout=httpx.Timeout(20, connect=10), follow_redirects=True) as client:
                self._client = client
                jars = self._bring(context)
        except (EmbeddedError, OSError):
            raise
        except Exception as error:
            raise self._failure(error) from error
        self._progress.finish("jars", f"Kafka {KAFKA_VERSION} is in {self._cache}")
        return jars

    def _bring(self, context: MavenContext) -> list[Path]:
        inputs, transitive = context.resolver.resolve([context.create_dependency(KAFKA)])
        artifacts: list[Artifact] = [dependency.artifact for dependency in [*inputs, *transitive]]
        artifacts.append(context.project(LOGGER[0], LOGGER[1]).at_version(LOGGER[2]).artifact())
        found: dict[int, Path] = {}
        waiting = list(enumerate(artifacts))

        def work() -> None:
            while waiting:
                try:
                    number, artifact = waiting.pop()
                except IndexError:  # another took the last
                    return
                found[number] = _whole(artifact)
                self._progress.advance("jars", len(found), len(artifacts))

        run_all([work] * _AT_ONCE, self._cancel)
        jars = [found[number] for number in range(len(artifacts))]
        names = {path.relative_to(self._cache).as_posix(): path.stat().st_size for path in jars}
        write_atomically(_list_file(self._cache), json.dumps({"jars": names}, indent=1) + "\n", mode=0o644)
        return jars

    def download(self, artifact: Any) -> Path:
        """Bring one file to its place in the cache: under another name until it is whole and its checksum is right."""
        target: Path = artifact.cached_path
        folder = artifact.component.path_prefix.as_posix()
        url = f"{self.repository}/{folder}/{artifact.filename}"
        for attempt in range(1, _ATTEMPTS + 1):
            self._check()
            try:
                return self._get(url, target)
            except httpx.HTTPError as error:
                if attempt == _ATTEMPTS or _is_final(error):
                    raise self._failure(error, url) from error
                self._cancel.wait(0.5 * attempt)
        raise AssertionError("unreachable")

    def _get(self, url: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        digest = hashlib.sha1(usedforsecurity=False)
        try:
            with self._client.stream("GET", url) as response, temporary.open("wb") as file:
                response.raise_for_status()
                for chunk in response.iter_bytes():
                    self._check()
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave an empty file under the right name
            expected = self._checksum(url)
            if expected is not None and expected != digest.hexdigest():
                raise httpx.ReadError(f"the checksum of {url} is wrong")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def _checksum(self, url: str) -> str | None:
        response = self._client.get(f"{url}.sha1")
        if response.status_code == 404:
            return None  # some repositories publish none
        response.raise_for_status()
        words = response.text.split()
        return words[0].lower() if words else None

    def _check(self) -> None:
        if self._cancel.is_set():
            raise CancelledStartError
        if time.monotonic() > self._limit:
            raise self._failure(TimeoutError(f"not done after {FETCH_LIMIT:.0f} s"))

    def _failure(self, error: Exception, url: str = "") -> EmbeddedError:
        repository = re.sub(r"//[^/@]*@", "//", self.repository)  # a password in it is not for the terminal
        missing = url.rsplit("/", 1)[-1] or KAFKA
        return EmbeddedError(
            f"Kafka's jars could not be fetched from {repository}: {missing}: {_reason(error)}. "
            f"Connect to the network and start again (what was fetched is kept); or set {REPOSITORY_SETTING} to a "
            "Maven repository that can be reached from here; or use a Kafka of your own: set "
            "KOMMO_STREAMS_KAFKA_BOOTSTRAP_SERVERS and start the processes one by one (kommo-streams --help)."
        )


def _whole(artifact: Artifact) -> Path:
    """The artifact's file; fetched again if what is kept is no jar."""
    path = Path(artifact.resolve())
    if not zipfile.is_zipfile(path):
        path.unlink()
        path = Path(artifact.resolve())
    return path


def _is_final(error: httpx.HTTPError) -> bool:
    """Whether the repository has answered no, so that asking again is of no use."""
    if not isinstance(error, httpx.HTTPStatusError):
        return False
    return error.response.status_code < 500 and error.response.status_code != 429


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the answer was {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__


def _resolver(fetch: _Fetch) -> Any:
    """jgo's own resolver with our download: its own writes in place, so a killed fetch would leave half a jar."""
    from jgo.maven import PythonResolver

    class Resolver(PythonResolver):
        def download(self, artifact: Artifact) -> Path | None:
            return fetch.download(artifact)

    return Resolver()
