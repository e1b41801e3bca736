"""What can be seen only while it happens: processes that die, changes in the runs table's stream,
statuses over time, messages and events that pass. Each watcher is a thread that only looks.
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
"""What a call raises while the emulator is stopped or the function behind it was killed."""


@dataclass
class Life:
    """A Lambda worker process. Times in nanoseconds. It was surely alive until `alive`, and
    surely dead at `dead`; None: it still lives. Lambda had it made at `born` for an invocation."""

    pid: int
    function: str
    born: int
    seen: int
    alive: int
    dead: int | None = None


class Watcher(threading.Thread):
    """Calls `look` until it is stopped, with pauses; what AWS does not answer is tried again."""

    def __init__(self, look: Callable[[], None], *, every_s: float) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._every_s = every_s
        self._over = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except AWS_DOWN:
                self._over.wait(0.3)
            except Exception as error:
                self.error = error
                return
            self._over.wait(self._every_s)

    def stop(self) -> None:
        """Ends it. Raises what ended it before."""
        self._over.set()
        self.join()
        if self.error is not None:
            raise self.error


class Processes:
    """The emulator's workers and when each of them died, to within milliseconds: the kernel tells
    through a pidfd. Knowing is bounded by `alive` and `dead`, however late this thread runs."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._fds: dict[int, Life] = {}
        self._poll = select.poll()
        self._next_scan = 0.0
        self.lives: list[Life] = []

    def look(self) -> None:
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
        """The workers of functions whose name holds `of`, oldest first."""
        return [it for it in self.lives if it.dead is None and of in it.function]

    def _scan(self) -> None:
        known = {life.pid for life in self._fds.values()}
        with contextlib.suppress(psutil.Error, TypeError):  # Between two servers.
            server = psutil.Process(self._server())
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

    def _server(self) -> int | None:
        pid = getattr(self, "_pid", None)
        if pid is None or not psutil.pid_exists(pid):
            self._pid = pid = self._stage.emulator.pid
        return pid


def _function_of(command: list[str]) -> str | None:
    """The emulator runs a worker from a temporary directory named after its function."""
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
    """Every change of a run, as the table's stream tells it: its dues, and its ended states."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._iterator: str | None = None
        self._lock = threading.Lock()
        self.changes: dict[str, list[Change]] = defaultdict(list)
        self.dues: dict[tuple[str, int], int] = {}
        """By run key and retries: the due of that attempt, in milliseconds."""
        self._taken: set[str] = set()

    def look(self) -> None:
        with self._lock:
            while self._read():
                pass

    def open_runs(self) -> int:
        """How many runs have not ended, as far as was read."""
        last = [changes[-1].item["kind"] for changes in list(self.changes.values())]
        return sum(kind not in ("completed", "canceled") for kind in last)

    def forget_position(self) -> None:
        """After a restart the stream is another one."""
        with self._lock:
            self._iterator = None

    def _read(self) -> bool:
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
    """A status, when it was asked for and when it was told: epoch milliseconds."""

    asked: float
    told: float
    status: dict[str, Any]


@dataclass
class Statuses:
    """Statuses over time, by the HTTP API."""

    stage: Stage
    seen: dict[tuple[str, str], list[Seen]] = field(default_factory=lambda: defaultdict(list))

    def read(self, pool: str, run_id: str, *, include: str = "") -> dict[str, Any]:
        asked = time.time() * 1000
        status = self.stage.status(pool, run_id, include=include)
        self.note(pool, run_id, status, asked=asked)
        return status

    def note(self, pool: str, run_id: str, status: dict[str, Any], *, asked: float) -> None:
        told = time.time() * 1000
        self.seen[pool, run_id].append(Seen(asked=asked, told=told, status=status))


class Passing:
    """Messages of the work and completion queues, and ended events, as they pass: what the monkey
    repeats later. Peeking leaves a message where it is."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.bodies: dict[str, dict[str, None]] = {name: {} for name in (*POOLS, "completions")}
        """By queue: bodies in the order in which they were first seen."""
        self.details: list[str] = []

    def look(self) -> None:
        sqs = self._stage.client("sqs")
        url = self._stage.events_queue_url
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self.details.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        for name in self.bodies:
            self.peek(name)

    def peek(self, name: str) -> list[str]:
        """The bodies of messages that wait now, up to ten."""
        answer = self._stage.client("sqs").receive_message(
            QueueUrl=self._stage.queue_url(name), MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        bodies = [message["Body"] for message in answer.get("Messages", [])]
        self.bodies[name].update(dict.fromkeys(bodies))
        return bodies
