"""The terminal, or the pipe, that a command writes to: the one place that cleans what is shown.

Texts that others wrote (ids, names, annotations, errors) may hold characters that steer a terminal,
or what rich takes for markup or for an emoji. Every string that is printed on this console passes
`plain`; a `Text` that is made of such a text must be made of `plain(text)`.
"""

from typing import Any

from rich.console import Console
from rich.text import Text

PIPE_WIDTH = 500
"""Columns of a line if another program reads the output. Wide, so that lines are not wrapped."""


class PlainConsole(Console):
    """A console without markup and emoji codes, which shows only printable characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)


def console(*, stderr: bool = False) -> Console:
    """The console of the terminal, or of the pipe, in which tables are plain columns."""
    result = PlainConsole(stderr=stderr)
    if not result.is_terminal:
        result.width = PIPE_WIDTH
    return result


def plain(text: object) -> str:
    """The text on one line. A question mark replaces each character that could steer the
    terminal: control and format characters, and halves of surrogates."""
    return "".join(
        char if char.isprintable() else " " if char == "\n" else "?" for char in str(text)
    )
