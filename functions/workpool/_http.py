"""The client's verbs over the HTTP API, for callers outside the stack.

Says for each verb what to request and what to expect, and repeats a request if AWS throttles or
fails, which is safe for every verb. `_connection` sends a request, `_answers` reads what comes
back. boto3 is imported only when it is first needed, so that importing the client stays quick.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import count
from urllib.parse import quote, urlencode, urlsplit

from workpool._answers import expect, expect_list, expect_status, read_answer, read_value
from workpool._connection import TIMEOUT_SECONDS, Connection, within, without_query
from workpool._verbs import Json, encode
from workpool.core import clock
from workpool.core.request import is_pool_name, is_run_id
from workpool.errors import Internal, Throttled, UnknownPool, WorkpoolError

TRIES = 4
"""How often a request is sent at most."""

LEAST_SECONDS = 1.0
"""How long a request may take at least, even if the caller's time is up: so that a last look at the
end of a `wait` gets its answer."""

STACK = "Workpool"
"""The default name of the stack."""

CHECK_SECONDS = 5
"""How long to wait for the names of the pools, which are only used for a check."""


class Http:
    def __init__(
        self, *, stack: str | None = None, profile: str | None = None, region: str | None = None
    ) -> None:
        self._stack = stack or _default_stack()
        self._profile = profile
        self._region = region
        self._opened: tuple[int, Connection] | None = None
        self._known_pools: frozenset[str] = frozenset()
        self._can_read_pools = True

    @property
    def _connection(self) -> Connection:
        """This process's connection: a forked process opens one of its own."""
        process = os.getpid()
        if self._opened is None or self._opened[0] != process:
            self._opened = process, Connection(profile=self._profile, region=self._region)
        return self._opened[1]

    def _from_environment(self, variable: str) -> str | None:
        """The value of the variable, if the environment is about this stack."""
        is_same_stack = self._stack == _default_stack()
        return os.environ.get(variable) if is_same_stack and self._profile is None else None

    @cached_property
    def _parameter(self) -> dict[str, str]:
        """The SSM parameter in which the stack publishes its addresses."""
        return _find_stack(self._connection, self._stack)

    @cached_property
    def runs_table(self) -> str:
        table = self._from_environment("WORKPOOL_RUNS_TABLE")
        return table or repeat(lambda: self._parameter["runsTable"], "SSM")

    @cached_property
    def _url(self) -> str:
        url = self._from_environment("WORKPOOL_API_URL") or self._parameter["apiUrl"]
        if _host_of(url) is None:
            raise WorkpoolError(f"the API's address must be a URL of HTTP, got {url!r}")
        return url.rstrip("/")

    def check_pool(self, pool: str) -> None:
        """Asks for the names of the pools once, and again for a name that is not among them: it may
        have been deployed since. If the caller may not read them, or cannot, there is no check."""
        if pool in self._known_pools or not self._can_read_pools:
            return
        names = self._read_pool_names()
        if names is None:
            self._can_read_pools = False
            return
        self._known_pools = names
        if pool not in names:
            raise UnknownPool(f"no pool {pool!r}; deployed are: {', '.join(sorted(names))}")

    def _read_pool_names(self) -> frozenset[str] | None:
        """The names of the deployed pools. None if they cannot be read within CHECK_SECONDS: a
        caller who puts items into the table needs no right to the API, and no way to it."""
        told = self._from_environment
        if told("WORKPOOL_RUNS_TABLE") and not told("WORKPOOL_API_URL"):
            return None
        try:
            shape = self._send("GET", "/pools", deadline=clock.monotonic() + CHECK_SECONDS)
            pools = expect_list(shape, self._url, "pools")
            return frozenset(expect(pool, self._url, name=str)["name"] for pool in pools)
        except WorkpoolError:
            return None

    def submit(self, pool: str, body: dict[str, Json]) -> Json:
        return expect(self._send("POST", _pool_path(pool) + "/runs", body), self._url, runId=str)

    def status(
        self, pool: str, run_id: str, include: Sequence[str], deadline: float | None = None
    ) -> Json:
        if not is_run_id(run_id):
            return _unknown(run_id)
        query = _query({"include": ",".join(include) if include else None})
        shape = self._send("GET", _run_path(pool, run_id) + query, deadline=deadline)
        return expect_status(shape, self._url)

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json:
        shape = self._send("POST", _pool_path(pool) + "/runs", {"runs": list(bodies)})
        return expect_list(shape, self._url, "results", length=len(bodies))

    def status_many(self, pool: str, run_ids: Sequence[str], deadline: float | None = None) -> Json:
        known = [it for it in run_ids if not isinstance(it, str) or is_run_id(it)]
        if not known:
            return [_unknown(it) for it in run_ids]
        body = {"runIds": known}
        shape = self._send("POST", _pool_path(pool) + "/status", body, deadline=deadline)
        statuses = iter(expect_list(shape, self._url, "statuses", length=len(known)))
        return [
            expect_status(next(statuses), self._url) if it in known else _unknown(it)
            for it in run_ids
        ]

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json:
        query = _query({"kind": kind, "cursor": cursor})
        shape = self._send("GET", _pool_path(pool) + "/runs" + query)
        for status in expect_list(shape, self._url, "runs"):
            expect_status(status, self._url)
        return shape

    def pools(self) -> Json:
        shape = self._send("GET", "/pools")
        for pool in expect_list(shape, self._url, "pools"):
            expect(pool, self._url, name=str)
        return shape

    def cancel(self, pool: str, run_id: str) -> Json:
        if not is_run_id(run_id):
            return _unknown(run_id)
        return expect_status(self._send("POST", _run_path(pool, run_id) + "/cancel"), self._url)

    def cancel_all(self, pool: str, before: int | None) -> Json:
        # Every try names the time of the first one, so none cancels what was submitted since.
        body = {"before": clock.now_ms() if before is None else before}
        return expect(self._send("POST", _pool_path(pool) + "/cancel", body), self._url)

    def stats(self, pool: str) -> Json:
        return expect(self._send("GET", _pool_path(pool) + "/stats"), self._url, pending=int)

    def change(self, pool: str, body: dict[str, Json]) -> Json:
        return expect(self._send("PATCH", _pool_path(pool), body), self._url, name=str)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json:
        body = None if run_ids is None else {"runIds": [it for it in run_ids if is_run_id(it)]}
        if body == {"runIds": []} and run_ids:
            return {"redriving": 0}  # None of these can name a run.
        shape = self._send("POST", _pool_path(pool) + "/redrive", body)
        return expect(shape, self._url, redriving=int)

    def fetch(self, url: str, deadline: float | None = None) -> Json:
        """Raises Internal for a URL that is neither of https nor of the local AWS: what an answer
        says must not choose where this process sends requests."""
        local = {self._url, *(os.environ.get(it, "") for it in _LOCAL_AWS)}
        hosts = {_host_of(it) for it in local if it.startswith("http://")}
        host = _host_of(url)
        if host is None or not (url.startswith("https://") or host in hosts):
            raise Internal(
                f"the return value is shown at {without_query(url)!r}, which is neither an address "
                f"of https nor of the local AWS"
            )
        return _fetch(self._connection, url, deadline)

    def _send(
        self, method: str, path: str, body: Json = None, *, deadline: float | None = None
    ) -> Json:
        data = b"" if body is None else encode(body)

        def send_once() -> Json:
            # Everything that may take time: finding the stack and its credentials as well.
            url = self._url
            answer = self._connection.send(method, url + path, data, sign=True, what=url)
            return read_answer(url, answer.status, answer.content)

        known = self.__dict__.get("_url") or self._from_environment("WORKPOOL_API_URL")
        return repeat(send_once, known or f"the stack {self._stack}", deadline)


_LOCAL_AWS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


def fetch(url: str, deadline: float | None = None) -> Json:
    """Read the return value at a URL that this process signed itself. Raises Internal if it is not
    there."""
    return _fetch(_connection_of(os.getpid()), url, deadline)


@cache
def _connection_of(process: int) -> Connection:
    return Connection()


def _fetch(connection: Connection, url: str, deadline: float | None) -> Json:
    shown = without_query(url)

    def fetch_once() -> Json:
        answer = connection.send("GET", url, sign=False, what=shown)
        return read_value(shown, answer.status, answer.content)

    return repeat(fetch_once, shown, deadline)


def repeat(send: Callable[[], Json], what: str, deadline: float | None = None) -> Json:
    """Return what `send` returns. Call it again if AWS throttles or fails, but not after the
    deadline, a time of `clock.monotonic`. `what` is asked, for the error if it does not answer."""
    for tries in count(1):
        left = TIMEOUT_SECONDS if deadline is None else deadline - clock.monotonic()
        try:
            return within(min(TIMEOUT_SECONDS, max(LEAST_SECONDS, left)), send, what)
        except (Throttled, Internal):
            pause = 0.2 * 2 ** (tries - 1)
            is_over = deadline is not None and clock.monotonic() + pause >= deadline
            if tries == TRIES or is_over:
                raise
            clock.sleep(pause)
    raise AssertionError("unreachable")


def _find_stack(connection: Connection, stack: str) -> dict[str, str]:
    """The addresses that a stack publishes in SSM. Raises Internal or Throttled if AWS fails, and
    WorkpoolError if AWS refuses to say them."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    name = f"/workpool/{stack}"
    config = Config(connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 1})
    try:
        ssm = connection.session.client("ssm", config=config)
        parameter = ssm.get_parameter(Name=name)
    except ClientError as error:
        failure = f"AWS did not say where the stack {stack} is: {error}"
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]
        if "Throttl" in code or code == "TooManyRequestsException":
            raise Throttled(failure) from error
        is_outage = status.get("HTTPStatusCode", 0) >= 500
        raise (Internal if is_outage else WorkpoolError)(failure) from error
    except HTTPClientError as error:
        raise Internal(f"SSM did not answer: {error}") from error
    except BotoCoreError as error:
        raise WorkpoolError(f"the stack {stack} cannot be looked up: {error}") from error
    try:
        addresses = json.loads(parameter["Parameter"]["Value"])
        return {it: str(addresses[it]) for it in ("apiUrl", "runsTable")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Internal(f"the SSM parameter {name} holds no addresses of a stack") from error


def _default_stack() -> str:
    """An empty variable is as good as none."""
    return os.environ.get("WORKPOOL_STACK") or STACK


def _host_of(url: str) -> str | None:
    """Host and port of a URL of HTTP; None if it is no such URL."""
    try:
        parts = urlsplit(url)
        is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts.netloc.rpartition("@")[2].lower() if is_http else None


def _query(parameters: dict[str, str | None]) -> str:
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"?{urlencode(given, errors='replace')}" if given else ""


def _pool_path(pool: str) -> str:
    """Raises UnknownPool for what is no name of a pool: in a path, `..` would lead elsewhere."""
    if not isinstance(pool, str) or not is_pool_name(pool):
        raise UnknownPool(f"no pool {pool!r}; names match [a-z][a-z0-9-]{{0,31}}")
    return f"/pools/{quote(pool, safe='')}"


def _run_path(pool: str, run_id: str) -> str:
    """The path of a run whose id was checked: in a path, `..` would lead elsewhere."""
    return f"{_pool_path(pool)}/runs/{quote(run_id, safe='')}"


def _unknown(run_id: str) -> Json:
    """The status of what has not the form of a run id, and so names no run."""
    return {"runId": run_id, "kind": "unknown"}
