"""The client's verbs outside: the HTTP API, each request signed with SigV4 for `execute-api`.

Requests are repeated when AWS throttles or fails: every verb may be. boto3 is imported when it is
first needed.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from workpool._verbs import Json, encode
from workpool.core import clock
from workpool.errors import (
    Internal,
    PayloadTooLarge,
    Throttled,
    WorkpoolError,
    error_of,
)

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.httpsession import URLLib3Session

TRIES = 4


class Http:
    def __init__(
        self, *, stack: str | None = None, profile: str | None = None, region: str | None = None
    ) -> None:
        self._stack = stack or os.environ.get("WORKPOOL_STACK", "Workpool")
        self._profile = profile
        self._region = region

    @cached_property
    def _session(self) -> "Session":
        import boto3  # Here, so that importing the client stays quick.

        return boto3.Session(profile_name=self._profile, region_name=self._region)

    def _named(self, variable: str) -> str | None:
        """What the environment says of this very stack."""
        own = self._stack == os.environ.get("WORKPOOL_STACK", "Workpool")
        return os.environ.get(variable) if own and self._profile is None else None

    @cached_property
    def _deployed(self) -> dict[str, str]:
        """What the stack wrote into its SSM parameter."""
        ssm = self._session.client("ssm")
        parameter = ssm.get_parameter(Name=f"/workpool/{self._stack}")
        found: dict[str, str] = json.loads(parameter["Parameter"]["Value"])
        return found

    @cached_property
    def runs_table(self) -> str:
        return self._named("WORKPOOL_RUNS_TABLE") or self._deployed["runsTable"]

    @cached_property
    def _url(self) -> str:
        return (self._named("WORKPOOL_API_URL") or self._deployed["apiUrl"]).rstrip("/")

    def submit(self, pool: str, body: dict[str, Json]) -> Json:
        return self._call("POST", _pool_path(pool) + "/runs", body)

    def status(self, pool: str, run_id: str, include: Sequence[str]) -> Json:
        query = f"?{urlencode({'include': ','.join(include)})}" if include else ""
        return self._call("GET", _path(pool, run_id) + query)

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json:
        return self._call("POST", _pool_path(pool) + "/runs", {"runs": list(bodies)})["results"]

    def status_many(self, pool: str, run_ids: Sequence[str]) -> Json:
        body = {"runIds": list(run_ids)}
        return self._call("POST", _pool_path(pool) + "/status", body)["statuses"]

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json:
        asked = {"kind": kind, "cursor": cursor}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return self._call("GET", _pool_path(pool) + "/runs" + (f"?{query}" if query else ""))

    def pools(self) -> Json:
        return self._call("GET", "/pools")

    def cancel(self, pool: str, run_id: str) -> Json:
        return self._call("POST", _path(pool, run_id) + "/cancel")

    def cancel_all(self, pool: str) -> Json:
        return self._call("POST", _pool_path(pool) + "/cancel")

    def stats(self, pool: str) -> Json:
        return self._call("GET", _pool_path(pool) + "/stats")

    def change(self, pool: str, body: dict[str, Json]) -> Json:
        return self._call("PATCH", _pool_path(pool), body)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json:
        body = None if run_ids is None else {"runIds": list(run_ids)}
        return self._call("POST", _pool_path(pool) + "/redrive", body)

    def fetch(self, url: str) -> Json:
        return fetch(url)

    def _call(self, method: str, path: str, body: Json = None) -> Json:
        """One request, tried again when AWS throttles or fails: every verb may be repeated."""
        data = b"" if body is None else encode(body)
        return _retry(lambda: self._once(method, path, data))

    def _once(self, method: str, path: str, data: bytes) -> Json:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        call = AWSRequest(
            method, self._url + path, data=data, headers={"Content-Type": "application/json"}
        )
        region = self._session.region_name or "us-east-1"
        credentials = self._session.get_credentials()
        # Without credentials (None), add_auth raises NoCredentialsError.
        SigV4Auth(credentials, "execute-api", region).add_auth(call)  # type: ignore[arg-type]
        try:
            answer = _connections().send(call.prepare())
        except BotoCoreError as error:
            raise Internal(f"{self._url} did not answer: {error}") from error
        try:
            shape = json.loads(answer.content or b"null")
        except ValueError:
            shape = None
        known_run = isinstance(shape, dict) and "kind" in shape
        if answer.status_code < 300 or (answer.status_code == 404 and known_run):
            return shape
        raise _refusal(answer.status_code, shape)


@cache
def _connections() -> "URLLib3Session":
    from botocore.httpsession import URLLib3Session

    return URLLib3Session(timeout=35)


def fetch(url: str) -> Json:
    """The return value at a URL that a status showed. Raises Internal if it is not there."""
    return _retry(lambda: _fetch_once(url))


def _retry(call: Callable[[], Json]) -> Json:
    """What a call answers, made again when AWS throttles or fails."""
    for tries in range(TRIES):
        try:
            return call()
        except (Throttled, Internal):
            if tries == TRIES - 1:
                raise
            clock.sleep(0.2 * 2**tries)
    raise AssertionError("unreachable")


def _fetch_once(url: str) -> Json:
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError

    where = url.partition("?")[0]
    try:
        answer = _connections().send(AWSRequest("GET", url).prepare())
    except BotoCoreError as error:
        raise Internal(f"{where} did not answer: {error}") from error
    if answer.status_code != 200:
        raise Internal(f"HTTP {answer.status_code} for the return value at {where}")
    return json.loads(answer.content)


def _pool_path(pool: str) -> str:
    return f"/pools/{quote(pool, safe='')}"


def _path(pool: str, run_id: str) -> str:
    return f"{_pool_path(pool)}/runs/{quote(run_id, safe='')}"


def _refusal(status: int, shape: Json) -> WorkpoolError:
    known = error_of(shape)
    if known is not None:
        return known
    if status == 403:
        return WorkpoolError(
            "AWS refused the request (HTTP 403): check the credentials, the region and the right "
            "to execute-api:Invoke"
        )
    by_status = {413: PayloadTooLarge, 429: Throttled}  # API Gateway's own refusals.
    kind = by_status.get(status, Internal if status >= 500 else WorkpoolError)
    return kind(f"HTTP {status}: {shape}")
