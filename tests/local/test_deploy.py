"""A real `cdk deploy` to a real emulator, of a project small enough for a second."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local import Emulator, LocalError, deploy

ROOT = Path(__file__).parents[2]
CDK = '{"app": "python3 app.py", "context": {"visibility": 30}}'


def local(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "local", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def options(emulator):
    return ["--directory", emulator.directory]


def test_up_twice_keeps_the_emulator_deploys_the_change_and_down_ends_it(emulator, project):
    up = [*options(emulator), "--project", project]
    first = local("up", *up, PORT=str(emulator.port))
    assert first.returncode == 0, first.stderr
    assert emulator.endpoint in first.stdout
    assert "make down" in first.stdout
    pid = emulator.pid

    cdk = json.loads((project / "cdk.json").read_text())
    (project / "cdk.json").write_text(json.dumps({**cdk, "context": {"visibility": 31}}))
    second = local("up", *up)
    assert second.returncode == 0, second.stderr
    assert emulator.pid == pid

    outputs = json.loads((emulator.directory / "outputs.json").read_text())["Tiny"]
    show = "import os, json; print(json.dumps({**os.environ}))"
    script = f". {emulator.directory}/env && exec {sys.executable} -c '{show}'"
    sourced = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    environment = json.loads(sourced.stdout)
    assert environment["AWS_ENDPOINT_URL"] == emulator.endpoint
    assert environment["WORKPOOL_STACK"] == "Tiny"
    assert environment["WORKPOOL_RUNS_TABLE"] == outputs["RunsTableName"]
    api = environment["WORKPOOL_API_URL"]
    assert api == f"{emulator.endpoint}/_aws/execute-api/abc123/%24default"
    assert "AWS_SESSION_TOKEN" not in environment

    assert local("status", *options(emulator)).returncode == 0
    assert local("down", *options(emulator)).stdout == "Stopped.\n"
    assert not emulator.running
    again = local("down", *options(emulator))
    assert (again.returncode, again.stdout) == (0, "Nothing runs.\n")
    assert not (emulator.directory / "env").exists()


def test_a_failed_deploy_tells_cloudformations_reason_and_the_next_one_works(emulator, project):
    emulator.start()
    with pytest.raises(LocalError) as error:
        deploy(project=project, emulator=emulator, context={"visibility": 100_000})
    lines = str(error.value).splitlines()
    assert lines[0].startswith("cdk deploy failed: ")
    assert "VisibilityTimeout" in lines[0]
    assert lines[1] == f"Its log: {emulator.directory}/deploy.log"
    assert len(lines) == 2
    assert deploy(project=project, emulator=emulator).stack == "Tiny"


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (
            {"mistake": True},
            "ValueError: 2 mistakes in cdk.json:\n  maxParallelism must be >= 1, got 0\n  no pool",
        ),
        ({"exits": "yes"}, "cdk.json: maxParallelism must be >= 1, got 0"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_without_a_traceback(
    emulator, project, context, message
):
    emulator.start()
    with pytest.raises(LocalError) as error:
        deploy(project=project, emulator=emulator, context=context)
    assert str(error.value) == (
        f"cdk deploy failed: {message}\nIts log: {emulator.directory}/deploy.log"
    )


def test_an_up_that_fails_stops_what_it_started(emulator, project):
    (project / "app.py").write_text("raise SystemExit('no pools')")
    failed = local("up", *options(emulator), "--project", project, "--port", emulator.port)
    assert failed.returncode == 1
    assert failed.stderr.startswith("cdk deploy failed: no pools\n")
    assert "Traceback" not in failed.stderr
    assert not emulator.running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_stops_what_it_started(emulator, project, number):
    (project / "app.py").write_text("import time; print('begun', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "local", "up", "--directory", str(emulator.directory)]
    command += ["--project", str(project), "--port", str(emulator.port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as up:
        deadline = time.monotonic() + 30
        log = emulator.directory / "deploy.log"
        while not (log.exists() and "begun" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        up.send_signal(number)
        assert up.wait(20) != 0
    assert not emulator.running


def test_up_refuses_a_taken_port(tmp_path, emulator, project):
    emulator.start()
    other = Emulator(directory=tmp_path / "other", port=emulator.port)
    refused = local("up", *options(other), "--project", project, "--port", other.port)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Port {other.port} is taken by process {emulator.pid}: ")
    assert emulator.running
