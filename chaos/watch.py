"""Record what can be seen only while it happens.

That is: processes that die, changes in the runs table's stream, statuses over time, and messages
and events that pass. Each watcher is a thread that calls one reader again and again; it changes
nothing.
"""

import contextlib
import os
import select
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from botocore.exceptions import BotoCoreError, ClientError

from chaos.plan import POOLS
from chaos.stage import Stage, bare

AWS_DOWN = (ClientError, BotoCoreError, OSError, ConnectionError)
"""What a call raises while the emulator does not run or if the function behind it was killed."""


@dataclass
class Life:
    """A Lambda worker process. Times are epoch nanoseconds.

    It was certainly alive until `alive`, and certainly dead at `dead`; None: it still lives. Lambda
    started it at `born`, for an invocation.
    """

    pid: int
    function: str
    born: int
    seen: int
    alive: int
    dead: int | None = None


class Watcher(threading.Thread):
    """A thread that calls `read` again and again until it is stopped. AWS may be down meanwhile."""

    def __init__(self, read: Callable[[], None], *, every_s: float) -> None:
        super().__init__(daemon=True)
        self._read = read
        self._every_s = every_s
        self._over = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._read()
            except AWS_DOWN:
                self._over.wait(0.3)
            except Exception as error:
                self.error = error
                return
            self._over.wait(self._every_s)

    def stop(self) -> None:
        """Stop it. Raises the error that ended it before, if there was one."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


class Processes:
    """The emulator's workers, and when each of them died.

    A pidfd gives the time to within milliseconds. `alive` and `dead` bound it, however late this
    thread runs.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._fds: dict[int, Life] = {}
        self._poll = select.poll()
        self._next_scan = 0.0
        self.lives: list[Life] = []

    def read(self) -> None:
        if time.monotonic() >= self._next_scan:
            self._scan()
            self._next_scan = time.monotonic() + 0.2
        before = time.time_ns()
        dead = {fd for fd, _ in self._poll.poll(20)}
        now = time.time_ns()
        for fd, life in list(self._fds.items()):
            if fd in dead:
                life.dead = now
                self._poll.unregister(fd)
                os.close(fd)
                del self._fds[fd]
            else:
                life.alive = before

    def living(self, of: str) -> list[Life]:
        """The living workers of functions whose name contains `of`, oldest first."""
        return [life for life in self.lives if life.dead is None and of in life.function]

    def _scan(self) -> None:
        known = {life.pid for life in self._fds.values()}
        with contextlib.suppress(psutil.Error, TypeError):  # No server runs at the moment.
            server = psutil.Process(self._find_server())
            for child in server.children():
                if child.pid not in known:
                    self._add(child)

    def _add(self, child: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            function = _function_of(child.cmdline())
            if function is None:
                return
            now = time.time_ns()
            fd = os.pidfd_open(child.pid)
            born = round(child.create_time() * 1e9)
            life = Life(pid=child.pid, function=function, born=born, seen=now, alive=now)
            self._fds[fd] = life
            self._poll.register(fd, select.POLLIN)
            self.lives.append(life)

    def _find_server(self) -> int | None:
        pid = getattr(self, "_pid", None)
        if pid is None or not psutil.pid_exists(pid):
            self._pid = pid = self._stage.emulator.pid
        return pid


def _function_of(command: list[str]) -> str | None:
    """The function of a worker: the emulator names the worker's temporary directory after it."""
    for word in command:
        _, found, rest = word.partition("ministack-lambda-")
        if found:
            return rest.partition("/")[0].rpartition("-")[0]
    return None


@dataclass
class Change:
    """A run's item after a change."""

    key: str
    at: int
    item: dict[str, Any]


class Stream:
    """Every change of every run, read from the runs table's stream."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._iterator: str | None = None
        self._lock = threading.Lock()
        self.changes: dict[str, list[Change]] = defaultdict(list)
        self.dues: dict[tuple[str, int], int] = {}
        """By run key and number of retries: when that attempt was due, in epoch milliseconds."""
        self._taken: set[str] = set()

    def read(self) -> None:
        """Read all that is new."""
        with self._lock:
            while self._read_records():
                pass

    def open_runs(self) -> int:
        """How many runs have not ended, as far as the stream was read."""
        last = [changes[-1].item["kind"] for changes in list(self.changes.values())]
        return sum(kind not in ("completed", "canceled") for kind in last)

    def forget_position(self) -> None:
        """Begin anew: after a restart the stream is a new one."""
        with self._lock:
            self._iterator = None

    def _read_records(self) -> bool:
        streams = self._stage.client("dynamodbstreams")
        if self._iterator is None:
            [stream] = streams.list_streams(TableName=self._stage.runs_table)["Streams"]
            about = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]
            self._iterator = streams.get_shard_iterator(
                StreamArn=stream["StreamArn"],
                ShardId=about["Shards"][-1]["ShardId"],
                ShardIteratorType="TRIM_HORIZON",
            )["ShardIterator"]
        try:
            answer = streams.get_records(ShardIterator=self._iterator, Limit=1000)
        except ClientError:
            self._iterator = None
            raise
        self._iterator = answer.get("NextShardIterator")
        for record in answer["Records"]:
            if record["eventID"] not in self._taken and "NewImage" in record["dynamodb"]:
                self._taken.add(record["eventID"])
                self._take(bare(record["dynamodb"]["NewImage"]))
        return bool(answer["Records"])

    def _take(self, item: dict[str, Any]) -> None:
        key, due = item["run"], int(item["due"])
        self.changes[key].append(Change(key=key, at=time.time_ns(), item=item))
        self.dues.setdefault((key, int(item["retries"])), due)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A status, when it was asked for, and when it was answered: epoch milliseconds."""

    asked: float
    answered: float
    status: dict[str, Any]


@dataclass
class Statuses:
    """Statuses over time, as the HTTP API answered them."""

    stage: Stage
    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=lambda: defaultdict(list))

    def read(self, pool: str, run_id: str, *, include: str = "") -> dict[str, Any]:
        asked = time.time() * 1000
        status = self.stage.read_status(pool, run_id, include=include)
        self.note(pool, run_id, status, asked=asked)
        return status

    def note(self, pool: str, run_id: str, status: dict[str, Any], *, asked: float) -> None:
        answered = time.time() * 1000
        self.seen[pool, run_id].append(Seen(asked=asked, answered=answered, status=status))


class Passing:
    """The messages and ended events that passed, which the monkey sends again later.

    A message stays in its queue: it is received without being hidden.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.bodies: dict[str, dict[str, None]] = {name: {} for name in (*POOLS, "completions")}
        """By queue: the bodies of messages in the order in which they were first seen."""
        self.details: list[str] = []
        """The details of ended events, in order."""

    def read(self) -> None:
        sqs = self._stage.client("sqs")
        url = self._stage.events_queue_url
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.details.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        for name in self.bodies:
            self.peek(name)

    def peek(self, name: str) -> list[str]:
        """Read the bodies of the messages that wait now, up to ten."""
        answer = self._stage.client("sqs").receive_message(
            QueueUrl=self._stage.queue_url(name), MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        bodies = [message["Body"] for message in answer.get("Messages", [])]
        self.bodies[name].update(dict.fromkeys(bodies))
        return bodies
