"""Sends one HTTP request, signed or not, within a given time. `_http` calls it.

It uses the credentials, proxies and certificates that every AWS tool uses: botocore finds them. It
never follows a redirect. It must not know what is requested: `_http` says it, and `_answers` reads
the answer.
"""

import contextvars
import os
from collections.abc import Callable
from functools import cache
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from workpool.errors import Internal, WorkpoolError

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.httpsession import URLLib3Session

T = TypeVar("T")

TIMEOUT_SECONDS = 35
"""How long to wait for one answer. API Gateway itself gives up after 30 seconds."""


class Answer(NamedTuple):
    status: int
    content: bytes


class Connection:
    """A way to AWS with the credentials of a profile, in one process."""

    def __init__(self, *, profile: str | None = None, region: str | None = None) -> None:
        """Raises WorkpoolError if AWS's configuration has no such profile."""
        import boto3
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        core = get_session()
        try:
            self.session: Session = boto3.Session(
                botocore_session=core, profile_name=profile, region_name=region
            )
            bundle = core.get_config_variable("ca_bundle")
        except BotoCoreError as error:
            raise WorkpoolError(str(error)) from error
        self._verify: str | bool = bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True

    @property
    def region(self) -> str:
        return self.session.region_name or "us-east-1"

    def send(self, method: str, url: str, data: bytes = b"", *, sign: bool, what: str) -> Answer:
        """Send the request once. Raises Internal if no answer comes, and WorkpoolError if there are
        no valid credentials to sign it with. `what` is asked, for the error: never the query of a
        signed URL, which gives access."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.utils import get_environ_proxies

        headers = {"Content-Type": "application/json"} if sign else {}
        request = AWSRequest(method, url, data=data, headers=headers)
        if sign:
            try:
                credentials = self.session.get_credentials()
                # Without credentials (None), add_auth raises NoCredentialsError.
                SigV4Auth(credentials, "execute-api", self.region).add_auth(request)  # type: ignore[arg-type]
            except BotoCoreError as error:
                raise WorkpoolError(f"the request cannot be signed: {error}") from error
        proxies = tuple(sorted(get_environ_proxies(url).items()))
        try:
            response = _connections(os.getpid(), proxies, self._verify).send(request.prepare())
        except BotoCoreError as error:
            raise Internal(f"{what} did not answer: {_reason(error)}") from error
        return Answer(response.status_code, response.content)


@cache
def _connections(
    process: int, proxies: tuple[tuple[str, str], ...], verify: str | bool
) -> "URLLib3Session":
    """The open connections of a process. A forked process must not use those of its parent: both
    would read each other's answers."""
    from botocore.httpsession import URLLib3Session

    return URLLib3Session(
        timeout=TIMEOUT_SECONDS,
        proxies=dict(proxies),
        verify=verify,  # type: ignore[arg-type]  # It also takes a path.
    )


def within(seconds: float, call: Callable[[], T], what: str) -> T:
    """Return what `call` returns. Raises Internal if that takes longer than `seconds`.

    The time-outs of a socket count from byte to byte, and looking up a host's name has none. So
    `call` gets a thread of its own, which is left alone when the time is up.
    """
    done: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # Raised again in the caller's thread.
            done.put((None, error))

    try:
        Thread(
            target=contextvars.copy_context().run,
            args=(run,),
            name="workpool-request",
            daemon=True,
        ).start()
    except RuntimeError:  # The interpreter is shutting down, and starts no threads any more.
        return call()
    try:
        value, error = done.get(timeout=seconds)
    except Empty:
        raise Internal(f"{what} did not answer within {seconds:.3g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def without_query(url: str) -> str:
    """The URL as an error may show it: the query of a signed URL gives access."""
    return url.partition("?")[0]


def _reason(error: Exception) -> str:
    """What went wrong, without the query of a signed URL, which botocore's errors quote."""
    reason = str(error)
    url = getattr(error, "kwargs", {}).get("endpoint_url")
    return reason.replace(url, without_query(url)) if isinstance(url, str) else reason
