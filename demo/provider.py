"""A small payment provider in a process of its own, with a ledger, idempotency keys and an outage.

It knows nothing of the workpool. Its outage has three parts: it refuses connections, then drops
them, then charges and never answers. It counts for itself how many requests it serves at the same
time. It serves `POST /charges` on one port and its ledger on another, and ends with its parent
process. story.py starts it.
"""

import json
import math
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REFUSES_S = 2.0
DROPS_S = 4.0
LOSES_ANSWERS_S = 6.0
"""When each part of the outage ends, in seconds after the outage began."""

LATENCY_S = (0.05, 0.25)
HELD_S = 10.0
BAD_CARD = "bad-card"


@dataclass
class Ledger:
    """What the provider did and counted. `Provider.lock` guards it."""

    charges: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    at_once: int = 0
    most_at_once: int = 0
    dropped: int = 0
    answers_lost: int = 0
    declined: int = 0
    repeated: int = 0
    held: dict[str, int] = field(default_factory=dict)
    """By order whose first request was held: the port that the request came from."""


class Provider:
    """The provider's state. The threads of both servers share it."""

    def __init__(self, *, hold: str) -> None:
        self.lock = threading.Lock()
        self.ledger = Ledger()
        self.began = math.inf
        self._hold = hold
        self._by_key: dict[str, dict[str, Any]] = {}

    @property
    def age(self) -> float:
        return time.monotonic() - self.began

    def mood(self) -> str:
        age = self.age
        if age < REFUSES_S:  # Also before the outage, when the provider does not listen yet.
            return "refuses connections"
        if age < DROPS_S:
            return "drops connections"
        return "charges, then drops the answer" if age < LOSES_ANSWERS_S else "healthy"

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self.ledger.requests += 1
            self.ledger.at_once += 1
            self.ledger.most_at_once = max(self.ledger.most_at_once, self.ledger.at_once)
        try:
            yield
        finally:
            with self.lock:
                self.ledger.at_once -= 1

    def charge(self, key: str, order: dict[str, Any]) -> dict[str, Any] | None:
        """Charge once per key, and return the key's charge. None: the card was declined."""
        with self.lock:
            if order["card"] == BAD_CARD:
                self.ledger.declined += 1
                return None
            if key in self._by_key:
                self.ledger.repeated += 1
                return self._by_key[key]
            charge = {"chargeId": f"ch_{len(self.ledger.charges) + 1}", **order}
            self._by_key[key] = charge
            self.ledger.charges.append(charge)
            return charge

    def hold(self, order_id: str, port: int) -> bool:
        """Note the chosen order's first request as held. False: any other request."""
        with self.lock:
            if order_id != self._hold or order_id in self.ledger.held:
                return False
            self.ledger.held[order_id] = port
            return True

    def copy_ledger(self) -> dict[str, Any]:
        with self.lock:
            return asdict(self.ledger) | {"mood": self.mood()}


class _Handler(BaseHTTPRequestHandler):
    provider: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing: everything is in the ledger."""

    def answer(self, code: int, shape: Any) -> None:
        body = json.dumps(shape).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


class _Charges(_Handler):
    def do_POST(self) -> None:
        with self.provider.counted():
            self._charge()

    def _charge(self) -> None:
        self.close_connection = True
        mood = self.provider.mood()
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(random.uniform(*LATENCY_S))
        if mood == "drops connections":
            with self.provider.lock:
                self.provider.ledger.dropped += 1
            return
        charge = self.provider.charge(self.headers["Idempotency-Key"], order)
        if charge is None:
            return self.answer(402, {"error": "card declined"})
        if mood != "healthy":
            with self.provider.lock:
                self.provider.ledger.answers_lost += 1
            return None
        if self.provider.hold(order["orderId"], self.client_address[1]):
            return self._wait_until_caller_is_gone()
        return self.answer(200, charge)

    def _wait_until_caller_is_gone(self) -> None:
        """Send nothing until the caller closes the connection or dies."""
        self.connection.settimeout(HELD_S)
        with suppress(OSError):
            self.connection.recv(1)


class _Ledger(_Handler):
    def do_GET(self) -> None:
        self.answer(200, self.provider.copy_ledger())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Print nothing about a caller that went away."""


def main(hold: str) -> None:
    """Print the two ports as JSON, and serve until the parent process ends.

    A line on standard input begins the outage.
    """
    provider = Provider(hold=hold)
    handler = type("Charges", (_Charges,), {"provider": provider})
    charges = _Server(("127.0.0.1", 0), handler, bind_and_activate=False)
    charges.server_bind()  # It does not listen yet, so connections are refused.
    ledger = _Server(("127.0.0.1", 0), type("Ledger", (_Ledger,), {"provider": provider}))
    threading.Thread(target=ledger.serve_forever, daemon=True).start()
    print(json.dumps({"charges": charges.server_port, "ledger": ledger.server_port}), flush=True)

    if not sys.stdin.readline():
        return
    provider.began = time.monotonic()
    time.sleep(REFUSES_S)
    charges.server_activate()
    threading.Thread(target=charges.serve_forever, daemon=True).start()
    sys.stdin.read()  # It returns when the parent ends.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
