"""The README's snippets, run as they stand on the deployed stack; its commands, accounted for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.tables import ORDERS, create_example_table
from tests.support import readme
from tests.support.command import SCRIPT

pytestmark = pytest.mark.e2e

RUN_ELSEWHERE = {
    "make demo": "CI",
    "make up": "tests/local",
    ". .local/env": "tests/local",
    "make down": "tests/local",
    "make test": "CI",
    "make check": "CI",
    "make chaos": "tests/chaos",
    "npx cdk bootstrap": "local/deploy.py, by each deploy of these tests",
    "npx cdk deploy": "local/deploy.py, by each deploy of these tests",
}


@pytest.fixture(scope="module")
def table(stack):
    """As `make up` does."""
    create_example_table(stack.client("dynamodb"))


def run(stack, command: list[str], text: str = "") -> str:
    environment = {**os.environ, **stack.environment, "PYTHONPATH": "functions"}
    environment.pop("AWS_SESSION_TOKEN", None)
    done = subprocess.run(
        command,
        input=text,
        env=environment,
        cwd=Path(readme.README).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_client_as_in_the_readme(stack, table):
    printed = run(stack, [sys.executable, "-"], readme.block("python client"))
    assert "'type': 'success'" in printed

    def mail():
        item = stack.client("dynamodb").get_item(TableName=ORDERS, Key={"orderId": {"S": "o1"}})
        return item.get("Item", {}).get("mail")

    assert stack.until(mail, lambda it: it is not None) == {"S": "success"}


def test_the_sdk_call_as_in_the_readme(stack, table):
    run_id = run(stack, [sys.executable, "-"], readme.block("python sdk") + "print(run_id)\n")
    assert stack.wait("default", run_id.strip())["result"]["type"] == "success"


def test_the_signed_request_as_in_the_readme(stack):
    answer = json.loads(run(stack, ["sh"], readme.block("sh")))
    assert stack.wait("default", answer["runId"])["result"]["type"] == "success"


def test_the_transaction_as_in_the_readme(stack, table):
    text = readme.block("python transaction") + "print(run_id)\n"
    run_id = run(stack, [sys.executable, "-"], text)
    assert stack.wait("default", run_id.strip())["result"]["type"] == "success"


def test_the_commands_as_in_the_readme(stack, table):
    path = f"export PATH={SCRIPT.parent}:$PATH\n"
    printed = run(stack, ["sh", "-e"], path + readme.block("workpool"))
    assert "success" in printed and "pending" in printed


def test_the_test_as_in_the_readme(tmp_path):
    for path, text in readme.files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        (tmp_path / path).with_name("__init__.py").touch()
    checkout = Path(readme.README).parent
    (tmp_path / "functions" / "workpool").symlink_to(checkout / "functions" / "workpool")
    context = {"pools": {"default": {"maxParallelism": 1}}}
    (tmp_path / "cdk.json").write_text(json.dumps({"context": context}))
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["workpool.testing"]\n')
    (tmp_path / "test_invoices.py").write_text(readme.block("python test"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "functions"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout


def test_every_block_and_command_of_the_readme_is_run_somewhere():
    run_here = {"python client", "python sdk", "sh", "python transaction", "workpool"}
    run_here |= {"python test"}
    assert {it.name for it in readme.blocks() if it.what == "run"} == run_here
    assert len(readme.files()) == 2
    for block in readme.blocks():
        if block.what is not None or block.language == "":  # a picture
            continue
        assert block.language == "sh"
        for line in block.text.splitlines():
            assert line.partition("#")[0].strip() in RUN_ELSEWHERE
