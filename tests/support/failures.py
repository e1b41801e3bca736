"""How things fail in tests: AWS refuses a call, a process dies. `Intercepted` stands between the
library and a client, so that any call may meet such a failure."""

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

Call = Callable[..., Any]
Meet = Callable[[str, Call, dict[str, Any]], Any]
"""Makes a call or lets it fail: its operation, the call itself, its parameters."""


class Died(BaseException):
    """The process ended here, as far as the test is concerned: nothing in it runs on."""


def refusal(
    code: str,
    operation: str = "AnyOperation",
    message: str = "refused by the test",
    **answer: Any,
) -> ClientError:
    """The error of a call that AWS refuses; `answer` is what else it says beside the error."""
    shape: Any = {"Error": {"Code": code, "Message": message}, **answer}
    return ClientError(shape, operation)


class Intercepted:
    """A client whose calls are passed to `meet`, and so is each page of a paginator."""

    def __init__(self, client: Any, meet: Meet) -> None:
        self._client = client
        self._meet = meet

    def get_paginator(self, operation: str) -> Any:
        paginator = self._client.get_paginator(operation)
        paginator._method = getattr(self, operation)
        return paginator

    def __getattr__(self, operation: str) -> Call:
        call = getattr(self._client, operation)
        return lambda **parameters: self._meet(operation, call, parameters)
