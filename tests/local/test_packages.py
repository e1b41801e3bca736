"""Packages for actions: installed from functions/requirements.txt, for where they are to run."""

import sys
from pathlib import Path
from typing import Any

import pytest

from local import packages
from local.errors import LocalError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "functions").mkdir()
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip was asked for; it does nothing."""
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return packages.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", run)
    return commands


def require(project: Path, text: str) -> None:
    (project / "functions" / "requirements.txt").write_text(text)


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "The packages of `functions/requirements.txt` are installed as a layer, without Docker",
)
@pytest.mark.parametrize("target", ["lambda", "emulator"])
def test_a_package_is_installed_where_a_layer_has_it(
    project: Path, wheel: Path, target: Any
) -> None:
    require(project, f"# mine\n{wheel}  # the smallest\n")
    to = packages.install(project, to=project / "there", target=target)
    assert (to / "python" / "tiny_package.py").read_text() == "ANSWER = 42\n"


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "If `functions/requirements.txt` names no package, nothing is installed",
)
@pytest.mark.parametrize("text", [None, "", "# only a comment\n\n   # another\n"])
def test_a_file_that_names_nothing_installs_nothing(
    project: Path, asked: list[list[str]], text: str | None
) -> None:
    if text is not None:
        require(project, text)
    to = packages.install(project, to=project / "there", target="lambda")
    assert list((to / "python").iterdir()) == []
    assert asked == []


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "Packages for Lambda are those of its platform, whatever the local machine is",
)
def test_for_lambda_wheels_of_its_platform_are_asked_for_whatever_this_machine_is(
    project: Path, asked: list[list[str]]
) -> None:
    require(project, "tiny\n")
    packages.install(project, to=project / "there", target="lambda")
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert {
        "--platform=manylinux2014_aarch64",
        "--python-version=3.13",
        "--only-binary=:all:",
    } <= set(command)


def test_for_the_emulator_the_interpreters_own_are_asked_for(
    project: Path, asked: list[list[str]]
) -> None:
    require(project, "tiny\n")
    packages.install(project, to=project / "there", target="emulator")
    assert not [it for it in asked[0] if it.startswith(("--platform", "--python-version"))]


def test_what_is_installed_is_not_installed_again_until_it_changes(
    project: Path, asked: list[list[str]]
) -> None:
    def install(target: Any = "lambda") -> int:
        packages.install(project, to=project / "there", target=target)
        return len(asked)

    require(project, "tiny\n")
    assert (install(), install()) == (1, 1)
    require(project, "# a comment changes nothing\ntiny\n")
    assert install() == 1
    require(project, "tiny==2\n")
    assert install() == 2
    assert install("emulator") == 3
    (project / "there" / "python" / "old.py").touch()
    require(project, "")
    assert install("emulator") == 3
    assert list((project / "there" / "python").iterdir()) == []


def test_a_package_that_cannot_be_installed_is_told_in_one_line_and_tried_again(
    project: Path,
) -> None:
    require(project, f"{project}/missing.whl\n")
    for _ in range(2):
        with pytest.raises(
            LocalError, match=r"^functions/requirements\.txt cannot be installed: ER"
        ):
            packages.install(project, to=project / "there", target="emulator")
