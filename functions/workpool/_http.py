"""The client's verbs over the HTTP API, for callers outside the stack.

Each request is signed with SigV4 for `execute-api`. If AWS throttles or fails, the request is
repeated, which is safe for every verb. boto3 is imported only when it is first needed, so that
importing the client stays quick.
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
"""How often a request is sent at most."""

TIMEOUT_SECONDS = 35
"""How long to wait for an answer. API Gateway itself gives up after 30 seconds."""


class Http:
    def __init__(
        self, *, stack: str | None = None, profile: str | None = None, region: str | None = None
    ) -> None:
        self._stack = stack or os.environ.get("WORKPOOL_STACK", "Workpool")
        self._profile = profile
        self._region = region

    @cached_property
    def _session(self) -> "Session":
        import boto3

        return boto3.Session(profile_name=self._profile, region_name=self._region)

    def _from_environment(self, variable: str) -> str | None:
        """The value of the variable, if the environment is about this stack."""
        is_same_stack = self._stack == os.environ.get("WORKPOOL_STACK", "Workpool")
        return os.environ.get(variable) if is_same_stack and self._profile is None else None

    @cached_property
    def _parameter(self) -> dict[str, str]:
        """The SSM parameter in which the stack publishes its addresses."""
        ssm = self._session.client("ssm")
        parameter = ssm.get_parameter(Name=f"/workpool/{self._stack}")
        addresses: dict[str, str] = json.loads(parameter["Parameter"]["Value"])
        return addresses

    @cached_property
    def runs_table(self) -> str:
        return self._from_environment("WORKPOOL_RUNS_TABLE") or self._parameter["runsTable"]

    @cached_property
    def _url(self) -> str:
        url = self._from_environment("WORKPOOL_API_URL") or self._parameter["apiUrl"]
        return url.rstrip("/")

    def submit(self, pool: str, body: dict[str, Json]) -> Json:
        return self._send("POST", _pool_path(pool) + "/runs", body)

    def status(self, pool: str, run_id: str, include: Sequence[str]) -> Json:
        query = f"?{urlencode({'include': ','.join(include)})}" if include else ""
        return self._send("GET", _run_path(pool, run_id) + query)

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json:
        return self._send("POST", _pool_path(pool) + "/runs", {"runs": list(bodies)})["results"]

    def status_many(self, pool: str, run_ids: Sequence[str]) -> Json:
        body = {"runIds": list(run_ids)}
        return self._send("POST", _pool_path(pool) + "/status", body)["statuses"]

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json:
        parameters = {"kind": kind, "cursor": cursor}
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        return self._send("GET", _pool_path(pool) + "/runs" + (f"?{query}" if query else ""))

    def pools(self) -> Json:
        return self._send("GET", "/pools")

    def cancel(self, pool: str, run_id: str) -> Json:
        return self._send("POST", _run_path(pool, run_id) + "/cancel")

    def cancel_all(self, pool: str, before: int | None) -> Json:
        # Every try names the time of the first one, so none cancels what was submitted since.
        body = {"before": clock.now_ms() if before is None else before}
        return self._send("POST", _pool_path(pool) + "/cancel", body)

    def stats(self, pool: str) -> Json:
        return self._send("GET", _pool_path(pool) + "/stats")

    def change(self, pool: str, body: dict[str, Json]) -> Json:
        return self._send("PATCH", _pool_path(pool), body)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json:
        body = None if run_ids is None else {"runIds": list(run_ids)}
        return self._send("POST", _pool_path(pool) + "/redrive", body)

    def fetch(self, url: str) -> Json:
        return fetch(url)

    def _send(self, method: str, path: str, body: Json = None) -> Json:
        data = b"" if body is None else encode(body)
        return _retry(lambda: self._send_once(method, path, data))

    def _send_once(self, method: str, path: str, data: bytes) -> Json:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        request = AWSRequest(
            method, self._url + path, data=data, headers={"Content-Type": "application/json"}
        )
        region = self._session.region_name or "us-east-1"
        credentials = self._session.get_credentials()
        # Without credentials (None), add_auth raises NoCredentialsError.
        SigV4Auth(credentials, "execute-api", region).add_auth(request)  # type: ignore[arg-type]
        try:
            response = _connections().send(request.prepare())
        except BotoCoreError as error:
            raise Internal(f"{self._url} did not answer: {error}") from error
        try:
            shape = json.loads(response.content or b"null")
        except ValueError:
            shape = None
        # A 404 with a kind is the status of an unknown run, not an error.
        is_status = isinstance(shape, dict) and "kind" in shape
        if response.status_code < 300 or (response.status_code == 404 and is_status):
            return shape
        raise _error_from(response.status_code, shape)


@cache
def _connections() -> "URLLib3Session":
    from botocore.httpsession import URLLib3Session

    return URLLib3Session(timeout=TIMEOUT_SECONDS)


def fetch(url: str) -> Json:
    """Read the return value at a URL that a status showed. Raises Internal if it is not there."""
    return _retry(lambda: _fetch_once(url))


def _retry(send: Callable[[], Json]) -> Json:
    """Call `send` and return what it returns. Call it again if AWS throttles or fails."""
    for tries in range(TRIES):
        try:
            return send()
        except (Throttled, Internal):
            if tries == TRIES - 1:
                raise
            clock.sleep(0.2 * 2**tries)
    raise AssertionError("unreachable")


def _fetch_once(url: str) -> Json:
    from botocore.awsrequest import AWSRequest
    from botocore.exceptions import BotoCoreError

    shown_url = url.partition("?")[0]  # Without the signature, which gives access.
    try:
        response = _connections().send(AWSRequest("GET", url).prepare())
    except BotoCoreError as error:
        raise Internal(f"{shown_url} did not answer: {error}") from error
    if response.status_code != 200:
        raise Internal(f"HTTP {response.status_code} for the return value at {shown_url}")
    return json.loads(response.content)


def _pool_path(pool: str) -> str:
    return f"/pools/{quote(pool, safe='')}"


def _run_path(pool: str, run_id: str) -> str:
    return f"{_pool_path(pool)}/runs/{quote(run_id, safe='')}"


def _error_from(status: int, shape: Json) -> WorkpoolError:
    error = error_of(shape)
    if error is not None:
        return error
    if status == 403:
        return WorkpoolError(
            "AWS refused the request (HTTP 403): check the credentials, the region and the right "
            "to execute-api:Invoke"
        )
    # API Gateway refuses these requests itself, with a body of its own.
    by_status = {413: PayloadTooLarge, 429: Throttled}
    error_class = by_status.get(status, Internal if status >= 500 else WorkpoolError)
    return error_class(f"HTTP {status}: {shape}")
