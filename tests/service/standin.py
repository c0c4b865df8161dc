"""Stands in for `python -m service`: doors that are ready at once, answers that are made up."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORTS = {"gateway": "GATEWAY", "ingest": "INGEST", "projector": "PROJECTOR", "dashboard": "DASHBOARD"}


def setting(name: str) -> str:
    return os.environ[f"KOMMO_STREAMS_{name}"]


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        never = os.environ.get("STANDIN_NEVER_READY") == sys.argv[1]
        self.send_response(503 if never else 200)
        self.end_headers()
        self.wfile.write(b"kafka is not there" if never else b"ok")

    def log_message(self, *arguments: object) -> None:
        pass


def main(name: str, rest: list[str]) -> None:
    if os.environ.get("STANDIN_FAILS") == name:
        sys.exit(f"{name}: made to fail")
    if name in PORTS:
        setting("KAFKA_BOOTSTRAP_SERVERS"), setting("DATABASE_URL"), setting("REDIS_URL"), setting("GATEWAY_KEYS")
        ThreadingHTTPServer(("127.0.0.1", int(setting(f"{PORTS[name]}_PORT"))), Door).serve_forever()
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
