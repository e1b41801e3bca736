"""What is shipped to Lambda: the code in `functions/`, Powertools, and the packages of user code.

The only module that touches files. It copies `functions/` as a folder and imports none of it.
Called by `infra/lambdas.py`.
"""

import ast
import atexit
import json
import os
import shutil
import sys
import tempfile
import unicodedata
from importlib.metadata import files
from pathlib import Path

from infra.config import PoolConfig
from infra.packages import are_installed, set_modes, wanted

FUNCTIONS = Path(__file__).parent.parent / "functions"

#: Powertools and what it imports. Lambda's runtime brings boto3.
LAYER_DISTRIBUTIONS = ("aws-lambda-powertools", "jmespath", "typing-extensions")

#: Parts of functions/workpool that run on a developer's machine. Leaving them out means that an
#: edit of the command line redeploys no function. `__main__.py` starts the command line.
NOT_SHIPPED = {"cli", "console", "testing", "__main__.py"}

_NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info", "pools.json")


def staged_functions(
    source: Path, pools: tuple[PoolConfig, ...], *, reserved: bool, tracing: bool = False
) -> Path:
    """A copy of the code, with the pools in a file: a function's environment is too small."""
    staged = _temporary_directory()
    _check_syntax(source)
    _check_names(source)

    def left_out(directory: str, names: list[str]) -> set[str]:
        unshipped = NOT_SHIPPED if Path(directory) == source / "workpool" else set()
        return _NOT_SOURCE(directory, names) | (unshipped & set(names))

    shutil.copytree(source, staged, ignore=left_out, dirs_exist_ok=True)
    entries = {pool.name: pool.for_functions(reserved=reserved, tracing=tracing) for pool in pools}
    (staged / "pools.json").write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    set_modes(staged)
    return staged


def staged_layer() -> Path:
    """Powertools, copied from the installed packages.

    So the build needs no Docker, and no public layer, whose ARN differs by region.
    """
    staged = _temporary_directory()
    for distribution in LAYER_DISTRIBUTIONS:
        for file in files(distribution) or ():
            # Leave out commands (outside the packages), compiled code, and pip's notes about the
            # installation, which would change the asset from one machine to the next.
            if (
                ".." in file.parts
                or "__pycache__" in file.parts
                or file.name in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
            ):
                continue
            target = staged / "python" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    set_modes(staged)
    return staged


def installed_packages(source: Path) -> Path | None:
    """The directory of the packages that functions/requirements.txt names; None if it names none.

    `make packages` installs them for Lambda's platform. A deploy to the emulator, whose platform is
    this machine, sets WORKPOOL_PACKAGES to another directory.
    """
    requirements = source / "requirements.txt"
    if not wanted(requirements):
        return None
    directory = Path(os.environ.get("WORKPOOL_PACKAGES", source.parent / ".packages" / "lambda"))
    if not are_installed(requirements, directory):
        sys.exit(
            "The packages of functions/requirements.txt are not installed as it names them now; "
            "type: make packages"
        )
    return directory


def _check_syntax(source: Path) -> None:
    """Refuse code that does not parse: it would deploy, and its actions would be unknown."""
    for path in [*source.glob("actions/**/*.py"), *source.glob("completions/**/*.py")]:
        try:
            ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f"{path.relative_to(source.parent)}" + (f", line {line}" if line else "")
            sys.exit(f"{where}: {getattr(error, 'msg', error)}")


def _check_names(source: Path) -> None:
    """Refuse modules of actions and handlers that Python cannot import by their name, or would
    never import: they would deploy, and their functions would be unknown."""
    for package in ("actions", "completions"):
        for path in sorted((source / package).glob("*.py")):
            where = path.relative_to(source.parent)
            if (path.with_suffix("") / "__init__.py").exists():
                sys.exit(
                    f"{where}: {where.with_suffix('')}/__init__.py has the same name, and Python "
                    "would import that one alone; remove or rename one of them"
                )
            importable = path.stem.isidentifier() and unicodedata.is_normalized("NFKC", path.stem)
            if not importable and b"workpool" in path.read_bytes():
                sys.exit(
                    f"{where}: Python cannot import a module of this name, so its functions could "
                    "not be run; use letters, digits and underscores"
                )


def _temporary_directory() -> Path:
    """A directory that exists until synth ends: the CDK copies an asset when it is first used."""
    path = tempfile.mkdtemp(prefix="workpool-asset-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)
