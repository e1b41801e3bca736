"""One emulator: a ministack process and its Lambda workers, with all their files in one directory.

It touches no processes but its own, no address but 127.0.0.1, and no files outside its directory.
The commands, the deploy, the demo, chaos and the end-to-end tests use it.
"""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import boto3
import psutil
from botocore.config import Config

from local.errors import LocalError

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_dynamodbstreams import DynamoDBStreamsClient
    from types_boto3_events import EventBridgeClient
    from types_boto3_lambda import LambdaClient
    from types_boto3_sqs import SQSClient
    from types_boto3_stepfunctions import SFNClient

ACCOUNT = "000000000000"
REGION = "us-east-1"
DEFAULT_PORT = 4566

_KEY = "local"  # The emulator accepts any.

# An environment variable that names the emulator of a process. Lambda workers inherit it, so the
# process table alone says what runs. A pid file could be stale, or name another program by now.
_MARK = "WORKPOOL_LOCAL_DIRECTORY"

_START_TIMEOUT_S = 60

# -P: the modules beside the file must not hide others of the same name.
_SERVER = ["-P", str(Path(__file__).with_name("server.py"))]

# What the emulator gets of this process's environment, and with it every function. Anything else
# may be a secret. Not the proxies either: their URLs may hold a password.
_PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)

_NO_OTHER_AWS = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Emulator:
    """The emulator of one directory. Emulators of two directories share nothing.

    `port`: 0 picks a free one; None takes the port of the emulator that already runs in this
    directory, else 4566. `environment` holds further settings of ministack, such as PERSIST_STATE.
    """

    def __init__(
        self,
        *,
        directory: Path,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        if port == 0:
            self.port = _pick_free_port()
        else:
            self.port = port or self._find_running_port() or DEFAULT_PORT
        self._environment = dict(environment or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._clients: dict[str, Any] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "emulator.log"

    @property
    def running(self) -> bool:
        return self._find_server() is not None

    @property
    def pid(self) -> int | None:
        server = self._find_server()
        return server.pid if server else None

    def start(self) -> bool:
        """Start it and wait until it answers. False: it already ran and was left as it is."""
        if self.running:
            running_port = self._find_running_port()
            if running_port != self.port:
                raise LocalError(
                    f"The emulator already runs on port {running_port}, not {self.port}. "
                    "Stop it first: make down"
                )
            return False
        self.stop()  # Stop the workers that a killed emulator left behind.
        _require_free(self.port)
        self._temporary.mkdir(parents=True)
        try:
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(
                    [sys.executable, *_SERVER],
                    cwd=self.directory,
                    env=self._server_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C in the terminal must not reach it.
                )
            self._wait_until_healthy(self._child)
        except BaseException:
            self.stop()
            raise
        return True

    def stop(self) -> bool:
        """Kill the server and every worker. False: nothing ran.

        The state is lost unless it was saved before: see restart.py.
        """
        stopped = False
        while left := self._find_processes():  # The server may have started another worker.
            stopped = True
            for process in left:
                with contextlib.suppress(psutil.Error):  # It has ended meanwhile.
                    process.kill()
            time.sleep(0.02)
        if self._child:
            self._child.wait()
            self._child = None
        shutil.rmtree(self._temporary, ignore_errors=True)
        return stopped

    def client_environment(self) -> dict[str, str]:
        """The environment variables with which an AWS client talks to this emulator."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
        }

    @overload
    def client(self, service: Literal["cloudformation"]) -> "CloudFormationClient": ...
    @overload
    def client(self, service: Literal["dynamodb"]) -> "DynamoDBClient": ...
    @overload
    def client(self, service: Literal["dynamodbstreams"]) -> "DynamoDBStreamsClient": ...
    @overload
    def client(self, service: Literal["events"]) -> "EventBridgeClient": ...
    @overload
    def client(self, service: Literal["lambda"]) -> "LambdaClient": ...
    @overload
    def client(self, service: Literal["sqs"]) -> "SQSClient": ...
    @overload
    def client(self, service: Literal["stepfunctions"]) -> "SFNClient": ...
    def client(self, service: Any) -> Any:
        """A boto3 client of this emulator, whatever the environment says. It never retries: the
        caller decides what a lost answer means."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.endpoint,
                region_name=REGION,
                aws_access_key_id=_KEY,
                aws_secret_access_key=_KEY,
                config=Config(
                    retries={"total_max_attempts": 1},
                    connect_timeout=5,
                    read_timeout=60,
                    max_pool_connections=40,
                ),
            )
        return self._clients[service]

    def find_process(self, *, local_port: int) -> int | None:
        """The pid of this emulator's process that has a TCP connection from that local port."""
        for process in self._find_processes():
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.laddr and connection.laddr[1] == local_port:
                        return int(process.pid)
        return None

    @property
    def _temporary(self) -> Path:
        return self.directory / "tmp"

    def _server_environment(self) -> dict[str, str]:
        passed_on = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED_ON or name.startswith("LC_")
        }
        return {
            **passed_on,
            **_NO_OTHER_AWS,
            "NO_PROXY": "127.0.0.1,localhost",  # A system may have proxies of its own.
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "IOT_MTLS_ENABLED": "0",  # Otherwise it listens on 0.0.0.0:8883.
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "STATE_DIR": str(self.directory / "state"),
            "S3_DATA_DIR": str(self.directory / "state" / "s3"),
            "TMPDIR": str(self._temporary),
            **self._environment,
            _MARK: str(self.directory),
        }

    def _wait_until_healthy(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(self.port):
            if child.poll() is not None:
                last = self.log.read_text(errors="replace").strip().rpartition("\n")[2]
                raise LocalError(f"The emulator ended at its start: {last}\nIts log: {self.log}")
            if time.monotonic() > deadline:
                raise LocalError(
                    f"The emulator did not answer within {_START_TIMEOUT_S} s. Its log: {self.log}"
                )
            time.sleep(0.05)

    def _find_processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # It has ended, or is another user's.
                if process.environ().get(_MARK) == str(self.directory):
                    found.append(process)
        return found

    def _find_server(self) -> psutil.Process | None:
        for process in self._find_processes():
            with contextlib.suppress(psutil.Error):
                if process.cmdline()[1:] == _SERVER:
                    return process
        return None

    def _find_running_port(self) -> int | None:
        if server := self._find_server():
            with contextlib.suppress(psutil.Error):
                return int(server.environ()["GATEWAY_PORT"])
        return None


def inherited_environment() -> dict[str, str]:
    """This process's environment without what points a child at another AWS or at other code."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PYTHON", "WORKPOOL_"))
    }
    return {
        **kept,
        **_NO_OTHER_AWS,
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1,localhost"])),
    }


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/_ministack/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pick_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    if _is_free(port):
        return
    others = range(port + 1, port + 100)
    other = next((candidate for candidate in others if _is_free(candidate)), None)
    way_out = f", or choose another: PORT={other} make up" if other else ""
    raise LocalError(f"Port {port} is taken{_describe_holder(port)}. Free it{way_out}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _describe_holder(port: int) -> str:
    with contextlib.suppress(psutil.Error):  # The system may refuse to say.
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr[1:] == (port,) and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f" by process {connection.pid}: {command[:200]}"
    return ""
