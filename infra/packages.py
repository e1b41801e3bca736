"""What `functions/requirements.txt` asks for, and whether the installed packages are that.

`local/packages.py` installs them and leaves a stamp beside them; `infra/asset.py` compares it. This
module imports nothing but the standard library.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

STAMP = "requirements"
"""The file beside the packages. Its first line is the digest of what was asked for."""

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S.*)")


def wanted(requirements: Path) -> list[str]:
    """The lines of the file that ask for something, without comments, also those of the files that
    it includes."""
    return list(_wanted(requirements, set()))


def digest(names: list[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def are_installed(requirements: Path, directory: Path) -> bool:
    """Whether the directory holds what the file asks for now."""
    stamp = directory / STAMP
    return stamp.is_file() and stamp.read_text().split("\n")[0] == digest(wanted(requirements))


def set_modes(directory: Path) -> None:
    """Let everybody read the files, as Lambda must, whatever the umask was when they were
    written."""
    for path in directory.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def _wanted(requirements: Path, seen: set[Path]) -> Iterator[str]:
    if requirements in seen or not requirements.is_file():
        return
    seen.add(requirements)
    for line in requirements.read_text().splitlines():
        name = re.sub(r"(^|\s)#.*", "", line).strip()
        if name:
            yield name
        if include := _INCLUDE.fullmatch(name):
            yield from _wanted((requirements.parent / include[1]).resolve(), seen)
