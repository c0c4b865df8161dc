"""Stands in for `python -m service`: doors that are ready at once, answers that are made up."""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from service.embedded.child import MARK

PROCESSES = ("gateway", "ingest", "projector", "worker", "dashboard")


def setting(name: str) -> str:
    return os.environ[f"KOMMO_STREAMS_{name}"]


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        never = os.environ.get("STANDIN_NEVER_READY") == sys.argv[1]
        self.answer(503 if never else 200, b"kafka is not there" if never else b"ok")

    def do_POST(self) -> None:
        assert self.path.startswith("/_simulator/token?account=")
        self.answer(200, json.dumps({"token": f"token-of-{self.path.partition('=')[2]}-that-nobody-sees"}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def account(what: str, rest: list[str]) -> None:
    """Accounts and the tokens they were connected with lie in a file of the data folder."""
    file = Path(os.environ[MARK]) / "standin-accounts.json"
    if what == "list":
        assert rest == ["--json"]
        print(file.read_text() if file.exists() else "[]")
        return
    token = sys.stdin.read()
    row = {"account_id": token.split("-")[2], "base_url": rest[1], "why": None, "token": token}
    assert rest[0] == "--url"
    assert rest[2:] == ["--token-file", "-"]
    file.write_text(json.dumps([row]))
    print("connected")


def main(name: str, rest: list[str]) -> None:
    if os.environ.get("STANDIN_FAILS") == name:
        sys.exit(f"{name}: made to fail")
    if name in PROCESSES:
        for needed in (*os.environ["STANDIN_NEEDS"].split(), "GATEWAY_KEYS", "TOKEN_KEYS"):
            setting(needed)
        ThreadingHTTPServer(("127.0.0.1", int(setting(f"{name.upper()}_PORT"))), Door).serve_forever()
    elif name == "simulate-api":
        assert setting("WEBHOOK_URL").endswith("/webhooks/token-of-1")
        assert rest[2] == "--ledger"
        ThreadingHTTPServer(("127.0.0.1", int(rest[1])), Door).serve_forever()
    elif name == "account":
        account(rest[0], rest[1:])
    elif name == "simulate":
        time.sleep(float(os.environ.get("STANDIN_SIMULATES", "3600")))
    elif name == "webhook-url":
        print(f"{setting('GATEWAY_URL')}/webhooks/token-of-{rest[1]}")
    elif name == "dashboard-url":
        print(f"{setting('DASHBOARD_URL')}/login?code=once")
    elif name == "token" and rest[0] == "create":
        print(f"token-{os.getpid()}")
    elif name == "token":
        assert setting("DASHBOARD_TOKEN").startswith("token-")
    else:
        assert name == "init", name


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
