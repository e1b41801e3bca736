"""Packages for actions: installed from functions/requirements.txt, for where they are to run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.asset import installed_packages, staged_functions
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


def synthesized(project: Path) -> Path | None:
    """The layer that a synth would take."""
    return installed_packages(project / "functions")


def installed(project: Path) -> Path:
    return packages.install(project, to=project / ".packages" / "lambda", target="lambda")


STALE = "are not installed as it names them now; type: make packages"


def test_a_failed_install_leaves_nothing_that_a_synth_takes_for_the_packages(
    project: Path, wheel: Path
) -> None:
    require(project, f"{wheel}\n")
    installed(project)
    assert synthesized(project) is not None
    require(project, f"{project}/missing.whl\n")
    for _ in range(2):
        with pytest.raises(LocalError):
            installed(project)
        with pytest.raises(SystemExit, match=STALE):
            synthesized(project)
    (project / ".packages" / "lambda" / "python").mkdir(parents=True)  # As older versions left it.
    with pytest.raises(SystemExit, match=STALE):
        synthesized(project)


@pytest.mark.promise(
    "Actions that are Lambda functions",
    "A synth refuses packages that are not what `functions/requirements.txt` names now",
)
def test_a_change_in_the_file_or_in_one_that_it_includes_is_refused_until_it_is_installed(
    project: Path, asked: list[list[str]]
) -> None:
    (project / "functions" / "more").mkdir()
    more, limits = project / "functions" / "more" / "base.txt", project / "limits.txt"
    require(project, "# mine\n-r more/base.txt\n")
    more.write_text("-c ../../limits.txt\n-r base.txt\ntiny\n")
    limits.write_text("tiny<2\n")

    def is_current() -> bool:
        try:
            return synthesized(project) is not None
        except SystemExit as refusal:
            assert STALE in str(refusal)
            return False

    assert not is_current()
    for change in (
        lambda: more.write_text("tiny==1\n-c ../../limits.txt\n"),
        lambda: limits.write_text("tiny<1  # older\n"),
        lambda: require(project, "--requirement=more/base.txt\nother\n"),
    ):
        installed(project)
        assert is_current()
        change()
        assert not is_current()
    installed(project)
    assert len(asked) == 4
    limits.write_text("# another comment\ntiny<1\n")
    assert is_current()
    require(project, "# nothing\n")
    assert synthesized(project) is None


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def modes(directory: Path) -> set[str]:
    return {oct(path.stat().st_mode & 0o777) for path in directory.rglob("*")}


def test_what_is_shipped_can_be_read_by_all_whatever_the_umask(
    project: Path, wheel: Path, strict_umask: None
) -> None:
    require(project, f"{wheel}\n")
    assert modes(installed(project)) <= {"0o755", "0o644"}
    (project / "functions" / "actions").mkdir()
    (project / "functions" / "actions" / "jobs.py").touch()
    script = project / "functions" / "actions" / "script"
    script.touch(mode=0o700)
    staged = staged_functions(project / "functions", (), reserved=True)
    assert modes(staged) == {"0o755", "0o644"}
    assert oct((staged / "actions" / "script").stat().st_mode & 0o777) == "0o755"


def test_a_package_without_a_wheel_for_lambda_is_told_as_that(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = (
        "ERROR: Could not find a version that satisfies the requirement tiny==3 (from versions: 1)"
        "\nERROR: No matching distribution found for tiny==3\n"
    )
    monkeypatch.setattr(
        packages.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, 1, "", pip),
    )
    require(project, "tiny==3\n")
    with pytest.raises(LocalError, match="tiny==3 has no wheel for Lambda, that is, for Python 3"):
        installed(project)
    with pytest.raises(LocalError, match="cannot be installed: ERROR: Could not"):
        packages.install(project, to=project / "there", target="emulator")


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (["reports.py", "reports/__init__.py"], "actions/reports/__init__.py has the same name"),
        (["send-mail.py"], "actions/send-mail.py: Python cannot import a module of this name"),
        (["my.mails.py"], "actions/my.mails.py: Python cannot import"),
        (["jöbs.py", "reports/data.py", "reports/__init__.py"], None),
    ],
)
def test_modules_whose_functions_could_not_be_run_are_refused_at_synth(
    project: Path, files: list[str], refused: str | None
) -> None:
    for file in files:
        path = project / "functions" / "actions" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("from workpool import action\n@action\ndef work(c, a): pass\n")
    (project / "functions" / "actions" / "no-action.py").write_text("print('a script')\n")
    if refused is None:
        staged_functions(project / "functions", (), reserved=True)
    else:
        with pytest.raises(SystemExit, match=refused):
            staged_functions(project / "functions", (), reserved=True)
