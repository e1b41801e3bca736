"""The connections of the clients, on a real socket."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from workpool.aws import clients


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_a_connection_whose_answer_is_waited_for_is_kept_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A NAT gateway drops it when it is idle for 350 s."""
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        clients._session.cache_clear()
        options = {}
        connect = socket.socket.connect

        def connected(its: socket.socket, address: object) -> None:
            connect(its, address)  # type: ignore[arg-type]
            for level, option in (
                (socket.SOL_SOCKET, "SO_KEEPALIVE"),
                (socket.IPPROTO_TCP, "TCP_KEEPIDLE"),
                (socket.IPPROTO_TCP, "TCP_KEEPINTVL"),
            ):
                options[option] = its.getsockopt(level, getattr(socket, option))

        monkeypatch.setattr(socket.socket, "connect", connected)
        clients.without_retries.__wrapped__("lambda", 3).invoke(FunctionName="charge")
        server.shutdown()
    clients._session.cache_clear()
    assert options == {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60}
