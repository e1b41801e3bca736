"""What user code raised: its text, and the errors inside an exception group. Pure.

User code may raise an error whose own methods raise, too. Nothing here passes that on. Called by
`user_code` and by `result`.
"""

from collections.abc import Iterator
from contextlib import suppress

MAX_NAMED = 10
"""How many inner errors of a group its text names."""


def error_text(error: BaseException) -> str:
    """The error's message, or the name of its class if it has no message or raises in `str`. The
    text of a group also names its inner errors."""
    text = _text(error) or _class_name(error)
    if not isinstance(error, BaseExceptionGroup):
        return text
    inner = list(inner_errors(error))
    named = [": ".join(filter(None, (_class_name(it), _text(it)))) for it in inner[:MAX_NAMED]]
    more = [f"{len(inner) - MAX_NAMED} more"] if len(inner) > MAX_NAMED else []
    return f"{text}: {'; '.join(named + more)}"


def inner_errors(error: BaseException) -> Iterator[BaseException]:
    """The errors in an exception group, at any depth; of any other error, the error itself."""
    left = [error]
    while left:
        error = left.pop()
        if isinstance(error, BaseExceptionGroup):
            # Read the group's own attribute: a subclass may have replaced it.
            left += reversed(BaseExceptionGroup.exceptions.__get__(error))
        else:
            yield error


def _text(error: BaseException) -> str:
    with suppress(BaseException):
        # Encoded and decoded, it is a plain string, even if `str` answered a subclass.
        return str.encode(str(error), "utf-8", "replace").decode()
    return ""


def _class_name(error: BaseException) -> str:
    name: str = type.__dict__["__name__"].__get__(type(error))  # Whatever its metaclass says.
    return name
