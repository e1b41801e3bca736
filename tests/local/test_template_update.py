"""A team takes over a newer version of the template: it is a git merge without conflicts.

A repository with the files of this checkout stands for the template. A team clones it and replaces
what is its own. The template's next commit changes every other file, and the team merges it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.node import CHECKOUT, cdk_command

OWN = ("cdk.json", "functions/actions", "functions/completions", "functions/requirements.txt")
"""What a team may change, replace or delete. No commit of the template may touch these files."""

CDK_JSON = {
    "app": "python3 app.py",
    "context": {
        "stackName": "Mails",
        "reservedConcurrency": False,
        "accountConcurrency": 20,
        "alarmTopicArn": "arn:aws:sns:eu-central-1:123456789012:operators",
        "tracing": True,
        "completions": {"timeoutSeconds": 30, "memoryMb": 512, "maxConcurrency": 3},
        "pools": {
            "mails": {
                "maxParallelism": 2,
                "maxRetries": 1,
                "actionTimeoutSeconds": 30,
                "environment": {"SENDER": "ada@example.org"},
                "tables": ["mails"],
                "lambdaActions": ["send-mail"],
                "alarms": {"oldestDueMs": 60000, "permanentFailureRate": 0.1},
            }
        },
    },
}
FILES = {
    "cdk.json": json.dumps(CDK_JSON, indent=2) + "\n",
    "functions/actions/mails.py": """
import os

import tiny_package

from workpool import action


@action
def send(ctx, args):
    if ctx.retries == 0:
        raise ConnectionError("the first attempt fails")
    return [os.environ["SENDER"], tiny_package.ANSWER]
""",
    "functions/completions/mails.py": """
from workpool import completion


@completion
def sent(ctx, context, result):
    return None
""",
    "tests/test_mails.py": """
from workpool import IdempotentWorkpool


def test_a_mail_is_sent(workpool_local):
    pool = IdempotentWorkpool("mails")
    run_id = pool.run("mails.send", on_complete="mails.sent")
    workpool_local.settle()
    status = pool.status(run_id)
    assert status.result == {"type": "success", "returnValue": ["ada@example.org", 42]}
    assert (status.retries, status.completion) == (1, "done")
""",
}
DEPLOYED = """
import json
import sys
from hashlib import sha256
from pathlib import Path

import chaos.stage
import demo.run
from local import copy_project

found = []
for code, context in (
    (demo.run.HERE, demo.run.context("http://127.0.0.1:1")),
    (chaos.stage.HERE, chaos.stage.context()),
):
    project = copy_project(Path(sys.argv[1], code.name), code=code)
    files = [path for path in project.rglob("*") if path.is_file()]
    digests = {str(it.relative_to(project)): sha256(it.read_bytes()).hexdigest() for it in files}
    found.append([context, digests])
print(json.dumps(found, sort_keys=True))
"""


@pytest.mark.promise(
    "Your copy of the template",
    "A newer version of the template is merged without conflicts, and your files stay as they are",
)
@pytest.mark.promise(
    "Your copy of the template",
    "The tests, the demo and chaos use none of your files",
)
def test_a_newer_version_is_merged_without_conflicts_and_the_teams_files_stay(tmp_path, wheel):
    template, team, newer = tmp_path / "template.git", tmp_path / "team", tmp_path / "newer"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(template))
    commit(CHECKOUT, f"--git-dir={template}", f"--work-tree={CHECKOUT}")
    for clone in (team, newer):
        git(tmp_path, "clone", "--quiet", str(template), str(clone))

    for path in tracked(team):
        if is_own(path) and not path.endswith("__init__.py"):
            (team / path).unlink()
    for path, text in FILES.items():
        (team / path).write_text(text)
    (team / "functions" / "requirements.txt").write_text(f"{wheel}\n")
    commit(team)
    before = contents(team)

    changed = [path for path in tracked(newer) if not is_own(path)]
    assert len(changed) > 100
    for path in changed:
        with (newer / path).open("a") as file:
            file.write("\n")
    commit(newer)
    git(newer, "push", "--quiet", "origin", "main")

    git(team, "pull", "--quiet", "--no-rebase", "--no-edit", "origin", "main")
    assert git(team, "status", "--porcelain") == ""
    after = contents(team)
    assert after == before | {path: (newer / path).read_bytes() for path in changed}

    # What the template brings neither fails because of the team's files nor takes anything of them.
    assert_the_teams_stack_is_synthesized(team, tmp_path / "synth")
    assert_tests_pass(team)
    assert deployed(team, tmp_path / "of team") == deployed(newer, tmp_path / "of newer")


def assert_the_teams_stack_is_synthesized(team: Path, out: Path) -> None:
    run(team, [sys.executable, "-m", "local", "packages"])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    synth = [*cdk_command(), "synth", "--quiet", "--no-notices", "--output", str(out)]
    run(team, synth, PATH=path)
    assert "Mails-mails-consumer" in (out / "Mails.template.json").read_text()
    code = [it.name for it in out.glob("asset.*/actions/*.py")]
    assert sorted(code) == ["__init__.py", "mails.py"]
    assert [*out.glob("asset.*/python/tiny_package.py")]


def assert_tests_pass(team: Path) -> None:
    """The team's own test, and one of the template that their pools and packages could break."""
    tests = ["tests/test_mails.py", "tests/synth/test_template.py", "-k", "mail or same_code"]
    packages = team / ".packages" / "lambda" / "python"
    done = run(team, [sys.executable, "-m", "pytest", "-q", *tests], PYTHONPATH=str(packages))
    assert "2 passed" in done


def deployed(tree: Path, to: Path) -> str:
    """What the demo and chaos of this tree deploy: contexts, and digests of files."""
    return run(tree, [sys.executable, "-c", DEPLOYED, str(to)], PYTHONPATH="functions")


def is_own(path: str) -> bool:
    return path.startswith(OWN)


def tracked(tree: Path) -> list[str]:
    return [path for path in git(tree, "ls-files").splitlines() if (tree / path).is_file()]


def contents(tree: Path) -> dict[str, bytes]:
    return {path: (tree / path).read_bytes() for path in tracked(tree)}


def commit(tree: Path, *where: str) -> None:
    git(tree, *where, "add", "--all")
    git(tree, *where, "commit", "--quiet", "--message", "Next")


def git(tree: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return run(tree, ["git", *who, *arguments], **settings)


def run(tree: Path, command: list[str], **environment: str) -> str:
    # A git hook that runs these tests sets GIT_INDEX_FILE and others for its own repository.
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        command,
        cwd=tree,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
