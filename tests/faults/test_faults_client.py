"""Fault 45: the client is forked, or what it talks to misbehaves. The servers are real, and local.

Its own answers only; its time-outs hold; and every error is one of the library's.
"""

import json
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

import workpool
from tests.support.http_server import QuietHandler, serve
from workpool import IdempotentWorkpool, _http, client

STATUS = {"runId": "r1", "pool": "default", "kind": "running"}
SECRET = "X-Amz-Signature=secret"


class Echo(QuietHandler):
    """Answers each status with the id that was asked for. Keeps connections open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        run_id = self.path.rpartition("/")[2]
        time.sleep(0.002)  # So that the questions of two processes meet.
        answer(self, 200, STATUS | {"runId": run_id})


def answer(handler: QuietHandler, status: int, shape: Any, **headers: str) -> None:
    data = shape if isinstance(shape, bytes) else json.dumps(shape).encode()
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(data))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def api(monkeypatch: pytest.MonkeyPatch, answer_one: Callable[[Any], None]) -> Iterator[str]:
    class Handler(QuietHandler):
        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer_one(self)

        do_GET = do_POST = do_PATCH = do

    with serve(Handler) as url:
        monkeypatch.setenv("WORKPOOL_API_URL", url)
        yield url


@contextmanager
def listener(monkeypatch: pytest.MonkeyPatch, talk: Callable[[socket.socket], None]) -> Any:
    """A server of plain TCP: what it says on each connection is up to the test."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return

            def serve_one(one: socket.socket = connection) -> None:
                with closing(one):
                    while not over.is_set():
                        try:
                            talk(one)
                        except OSError:
                            return
                        over.wait(0.05)

            threads.append(threading.Thread(target=serve_one))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        accepting = threading.Thread(target=accept)
        accepting.start()
        monkeypatch.setenv("WORKPOOL_API_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield
        over.set()
        server.shutdown(socket.SHUT_RDWR)
    for thread in (accepting, *threads):
        thread.join(5)


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began <= most


# Forked


def ask_many(pool: IdempotentWorkpool, name: str, wrong: Any) -> None:
    for number in range(60):
        run_id = f"{name}-{number}"
        try:
            got = pool.status(run_id).run_id
        except BaseException as error:
            got = repr(error)
        if got != run_id:
            wrong.put(f"{run_id} got {got}")


def test_fault_45_forked_processes_get_their_own_answers_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As gunicorn --preload and Celery do: the client was used before the fork."""
    fork = multiprocessing.get_context("fork")
    wrong = fork.SimpleQueue()
    with serve(Echo) as url:
        monkeypatch.setenv("WORKPOOL_API_URL", url)
        pool = IdempotentWorkpool()
        assert pool.status("before").run_id == "before"
        children = [
            fork.Process(target=ask_many, args=(pool, f"child{it}", wrong)) for it in range(3)
        ]
        for child in children:
            child.start()
        ask_many(pool, "parent", wrong)
        for child in children:
            child.join(30)
            assert child.exitcode == 0
    assert wrong.empty(), wrong.get()


# Silent, or slow


def test_fault_45_a_server_that_accepts_and_says_nothing_does_not_outlast_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        listener(monkeypatch, lambda connection: None),
        takes(1.4, 5),
        pytest.raises(TimeoutError, match=r"did not answer within 1\.5 s"),
    ):
        IdempotentWorkpool().wait("r1", timeout=1.5)


@pytest.mark.parametrize(
    "first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], ids=["head", "body"]
)
def test_fault_45_a_server_that_dribbles_does_not_outlast_a_wait(
    monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    """Each byte comes in time for a socket's own time-out."""
    begun: set[socket.socket] = set()

    def dribble(connection: socket.socket) -> None:
        if connection not in begun:
            begun.add(connection)
            connection.sendall(first or b"HTTP/1.1 200 OK\r\nX: ")
        connection.sendall(b"x")

    with listener(monkeypatch, dribble), takes(1.4, 5), pytest.raises(TimeoutError):
        IdempotentWorkpool().wait("r1", timeout=1.5)


def test_fault_45_each_request_by_itself_has_a_time_out_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_http, "TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(_http, "LEAST_SECONDS", 0.2)
    for ask in (
        lambda pool: pool.run("a.b"),
        lambda pool: pool.status_batch(["r1"]),
        lambda pool: pool.stats(),
        lambda pool: pool.pause(),
    ):
        with (
            listener(monkeypatch, lambda connection: None),
            takes(2, 8),
            pytest.raises(workpool.Internal, match=r"did not answer within 0\.2 s"),
        ):
            ask(IdempotentWorkpool())


def test_fault_45_a_stack_that_ssm_does_not_name_in_time_does_not_outlast_a_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listener(monkeypatch, lambda connection: None), takes(1.4, 5):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", os.environ["WORKPOOL_API_URL"])
        monkeypatch.delenv("WORKPOOL_API_URL")
        with pytest.raises(TimeoutError, match="the stack Workpool did not answer within"):
            IdempotentWorkpool().wait("r1", timeout=1.5)


# Away


def test_fault_45_an_outage_inside_the_time_of_a_wait_is_waited_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For longer than the four tries of one request take."""
    monkeypatch.setattr(client, "POLL_SECONDS", (0.05, 0.1))
    began = time.monotonic()

    def away(handler: Any) -> None:
        if time.monotonic() < began + 2.5:
            answer(handler, 503, {"message": "Service Unavailable"})
        else:
            answer(handler, 200, STATUS | {"kind": "canceled", "result": {"type": "canceled"}})

    with api(monkeypatch, away):
        assert IdempotentWorkpool().wait("r1", timeout=20).kind == "canceled"


def test_fault_45_an_outage_that_lasts_is_a_time_out_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        api(monkeypatch, lambda it: answer(it, 503, {"message": "Unavailable"})),
        takes(0.9, 5),
        pytest.raises(TimeoutError, match=r"no answer after 1 s: HTTP 503 .*Unavailable"),
    ):
        IdempotentWorkpool().wait("r1", timeout=1)


# Nonsense


NONSENSE: list[Any] = [
    b"<html>captive portal</html>",
    b"\xff\xfe",
    b"[" * 100_000,
    b"",
    [],
    {},
    "ok",
    {"runId": 7, "kind": "running"},
    {"results": [], "statuses": 3, "runs": [1], "pools": None, "redriving": "x"},
]
VERBS: list[Callable[[IdempotentWorkpool], Any]] = [
    lambda pool: pool.status("r1"),
    lambda pool: pool.run("a.b"),
    lambda pool: pool.cancel("r1"),
    lambda pool: pool.status_batch(["r1"]),
    lambda pool: list(pool.runs()),
    lambda pool: pool.pools(),
    lambda pool: pool.stats(),
    lambda pool: pool.redrive(["r1"]),
    lambda pool: pool.pause(),
]


@pytest.mark.parametrize("shape", NONSENSE, ids=lambda it: repr(it)[:30])
def test_fault_45_a_200_that_no_workpool_answers_is_internal_and_names_the_url(
    monkeypatch: pytest.MonkeyPatch, shape: Any
) -> None:
    monkeypatch.setattr("workpool.core.clock.sleep", lambda seconds: None)
    with api(monkeypatch, lambda handler: answer(handler, 200, shape)) as url:
        for ask in VERBS:
            with pytest.raises(workpool.Internal, match=f"{url} answered what"):
                ask(IdempotentWorkpool())
        (refused,) = IdempotentWorkpool().run_batch([{"action": "a.b"}])
        assert isinstance(refused, workpool.Internal)


def test_fault_45_a_status_whose_result_is_none_is_internal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workpool.core.clock.sleep", lambda seconds: None)
    ended = STATUS | {"kind": "completed", "result": ["success"]}
    with (
        api(monkeypatch, lambda handler: answer(handler, 200, ended)),
        pytest.raises(workpool.Internal, match="answered what no workpool answers"),
    ):
        IdempotentWorkpool().status("r1")


def test_fault_45_a_server_that_speaks_no_http_is_internal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workpool.core.clock.sleep", lambda seconds: None)

    def speak(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        connection.shutdown(socket.SHUT_RDWR)

    with listener(monkeypatch, speak), pytest.raises(workpool.Internal, match="did not answer"):
        IdempotentWorkpool().status("r1")


def test_fault_45_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workpool.core.clock.sleep", lambda seconds: None)
    asked: list[str] = []

    def elsewhere(handler: Any) -> None:
        asked.append(handler.path)
        answer(handler, 302, b"", Location="/elsewhere")

    with (
        api(monkeypatch, elsewhere) as url,
        pytest.raises(workpool.Internal, match=f"{url} answered with a redirect"),
    ):
        IdempotentWorkpool().status("r1")
    assert set(asked) == {"/pools/default/runs/r1"}


# Refused, expired


@pytest.mark.parametrize(
    "reason",
    [
        "The security token included in the request is expired",
        "Signature expired: 20261126T100000Z is now earlier than 20261126T110000Z",
        "Credential should be scoped to a valid region, not 'us-east-1'.",
    ],
)
def test_fault_45_what_expired_is_said_in_the_words_of_aws(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    for name in ("message", "Message"):
        with (
            api(monkeypatch, lambda it, name=name: answer(it, 403, {name: reason})),
            pytest.raises(workpool.WorkpoolError) as caught,
        ):
            IdempotentWorkpool().wait("r1", timeout=60)
        assert f"AWS refused the request (HTTP 403): {reason}; check" in str(caught.value)


def test_fault_45_credentials_that_ssm_refuses_are_an_error_of_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = {"__type": "ExpiredTokenException", "message": "The token is expired"}
    with api(monkeypatch, lambda it: answer(it, 400, refusal)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", url)
        monkeypatch.delenv("WORKPOOL_API_URL")
        with pytest.raises(workpool.WorkpoolError, match="The token is expired"):
            IdempotentWorkpool().status("r1")


def test_fault_45_without_credentials_or_a_profile_the_error_is_the_librarys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKPOOL_API_URL", "http://127.0.0.1:1")
    with pytest.raises(workpool.WorkpoolError, match="profile"):
        IdempotentWorkpool(profile="nobody", stack="Other").status("r1")
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(workpool.WorkpoolError, match="credentials"):
        IdempotentWorkpool().status("r1")


# Return values elsewhere


def large(url: str) -> dict[str, Any]:
    result = {"type": "success", "returnValueUrl": url}
    return STATUS | {"kind": "completed", "result": result}


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
        "//127.0.0.1/x",
        "http://[",
        "",
    ],
)
def test_fault_45_a_return_value_is_fetched_over_https_or_from_the_local_aws_only(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with (
        api(monkeypatch, lambda it: answer(it, 200, large(f"{url}?{SECRET}"))),
        pytest.raises(workpool.Internal, match="neither an address of https") as caught,
    ):
        IdempotentWorkpool().status("r1")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"{"),
        (200, b"\xff"),
        (200, b"[" * 100_000 + b"]" * 100_000),
        (200, b"[" * 300 + b"]" * 300),
        (302, b"{}"),
        (403, b"<Error>Request has expired</Error>"),
    ],
    ids=["broken", "no UTF-8", "very deep", "deep", "redirect", "expired"],
)
def test_fault_45_a_return_value_that_cannot_be_read_is_internal(
    monkeypatch: pytest.MonkeyPatch, status: int, content: bytes
) -> None:
    monkeypatch.setattr("workpool.core.clock.sleep", lambda seconds: None)
    asked: list[str] = []

    def do(handler: Any) -> None:
        asked.append(handler.path.partition("?")[0])
        if handler.path.startswith("/bucket"):
            answer(handler, status, content, Location="/elsewhere")
        else:
            answer(handler, 200, large(f"{os.environ['WORKPOOL_API_URL']}/bucket/x?{SECRET}"))

    with (
        api(monkeypatch, do) as url,
        pytest.raises(workpool.Internal, match=f"return value at {url}/bucket/x") as caught,
    ):
        IdempotentWorkpool().status("r1")
    assert SECRET not in str(caught.value)
    assert "/elsewhere" not in asked
