"""A web page in the developer's browser has no power over the emulator, and so none over them.

The emulator runs any code that it is sent, as the developer. A page may send requests to
127.0.0.1 without asking: a POST of plain text, a form, an image. The tests send what it can send.
"""

import http.client
import json
import os
from collections.abc import Iterator

import psutil
import pytest

from local import Emulator

FUNCTION = json.dumps(
    {
        "FunctionName": "evil",
        "Runtime": "python3.13",
        "Handler": "index.handler",
        "Role": "arn:aws:iam::000000000000:role/any",
        "Code": {"ZipFile": "aGVsbG8="},
    }
)
PLAIN = {"Content-Type": "text/plain"}
SECRETS = {
    "GITHUB_TOKEN": "secret-1",
    "HTTPS_PROXY": "http://user:secret-2@proxy.invalid",
    "DATABASE_URL": "secret-3",
    "AWS_SESSION_TOKEN": "secret-4",
}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        emulator = Emulator(directory=tmp_path_factory.mktemp("emulator"), port=0)
        try:
            emulator.start()
            yield emulator
        finally:
            emulator.stop()


def send(
    emulator: Emulator,
    headers: dict[str, str],
    method: str = "POST",
    path: str = "/2015-03-31/functions",
) -> int:
    """The status of a request whose headers are exactly these."""
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        body = FUNCTION.encode() if method == "POST" else b""
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


def functions(emulator: Emulator) -> list[str]:
    listed = emulator.client("lambda").list_functions()["Functions"]
    return [function["FunctionName"] for function in listed]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},  # a sandboxed frame
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_request_that_a_page_sends_is_refused(
    emulator: Emulator, headers: dict[str, str]
) -> None:
    own = {"Host": f"127.0.0.1:{emulator.port}", **PLAIN}
    assert send(emulator, {**own, **headers}) == 403
    assert send(emulator, {**own, **headers}, "GET", "/?Action=ListQueues") == 403
    assert send(emulator, {**own, **headers}, "OPTIONS") == 403
    assert functions(emulator) == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",  # its name now leads to 127.0.0.1
        "127.0.0.1.evil.example:{port}",
        "localhost.evil.example:{port}",
        "abc123.execute-api.evil.example:{port}",
        "execute-api.localhost.evil.example:{port}",
        "lambda.us-east-1.amazonaws.com",
        "127.0.0.1",
        "localhost:1",
        "127.0.0.1:{port}@evil.example",
        "",
    ],
)
def test_a_request_for_another_host_is_refused(emulator: Emulator, host: str) -> None:
    headers = {"Host": host.format(port=emulator.port), **PLAIN}
    assert send(emulator, headers) == 403
    assert send(emulator, headers, "GET", "/_ministack/health") == 403
    assert functions(emulator) == []


def test_a_web_socket_of_a_page_is_refused(emulator: Emulator) -> None:
    headers = {
        "Host": f"localhost:{emulator.port}",
        "Origin": "https://evil.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert send(emulator, headers, "GET", "/_aws/execute-api/abc/prod") == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "abc123.execute-api.localhost"])
def test_the_hosts_of_aws_clients_are_served(emulator: Emulator, host: str) -> None:
    headers = {"Host": f"{host}:{emulator.port}"}
    assert send(emulator, headers, "GET", "/_ministack/health") == 200


def test_the_emulator_and_its_functions_get_nothing_secret_of_the_environment(
    emulator: Emulator,
) -> None:
    """Functions inherit the server's environment."""
    environment = psutil.Process(emulator.pid).environ()
    assert not SECRETS.keys() & environment.keys()
    assert environment["PATH"] == os.environ["PATH"]
