"""The page's files: read once at start, sent with an ETag; nothing is built and nothing comes from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    media_type: str
    etag: str

    def answer(self, request: Request) -> Response:
        # no-cache: kept, but asked for again each time, so that an upgrade never mixes old and new files.
        headers = {"Cache-Control": "no-cache", "ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        return Response(self.body, media_type=self.media_type, headers=headers)


def _read() -> dict[str, _File]:
    files = {}
    for item in resources.files("dashboard").joinpath("static").iterdir():
        media_type = _TYPES.get(item.name.rpartition(".")[2])
        if media_type is not None:
            body = item.read_bytes()
            files[item.name] = _File(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
    return files


def routes() -> list[Route]:
    """Return a route for each file: the page at /, the rest under /static/."""

    def route(path: str, file: _File) -> Route:
        async def answer(request: Request) -> Response:
            return file.answer(request)

        return Route(path, answer, methods=["GET"])

    return [route("/" if name == "index.html" else f"/static/{name}", file) for name, file in _read().items()]
