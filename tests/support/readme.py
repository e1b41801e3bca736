"""The code blocks of the README and docs/api.md. The comment above a block says what it is for."""

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
PAGES = (README, README.parent / "docs" / "api.md")

_BLOCK = re.compile(
    r"(?:<!-- (?P<what>file|run): (?P<name>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """`what` is "file" (write it to that path), "run" (a test runs it) or None."""

    what: str | None
    name: str | None
    language: str
    text: str


def blocks() -> list[Block]:
    return [
        Block(it["what"], it["name"], it["language"], it["text"])
        for page in PAGES
        for it in _BLOCK.finditer(page.read_text())
    ]


def files() -> dict[str, str]:
    """The files that the README tells a reader to write, by path."""
    return {it.name: it.text for it in blocks() if it.what == "file" and it.name}


def block(name: str) -> str:
    """The text of the block that a test runs under this name."""
    [text] = [it.text for it in blocks() if it.what == "run" and it.name == name]
    return text
