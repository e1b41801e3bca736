"""Run the real `cdk bootstrap` and `cdk deploy` against an emulator.

It must not change the project that it deploys: every file goes to the emulator's directory.
The commands, the demo, chaos and the end-to-end tests call it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from botocore.exceptions import ClientError

from local.emulator import ACCOUNT, REGION, Emulator, inherited_environment
from local.errors import LocalError
from local.failure import deploy_failure
from local.node import CHECKOUT, cdk_command
from local.packages import install

_TIMEOUT_S = 900


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The one stack that was deployed, and its outputs by name."""

    emulator: Emulator
    stack: str
    outputs: Mapping[str, str]

    @property
    def api_url(self) -> str:
        """The HTTP API's URL. Its host is 127.0.0.1: `*.localhost` does not resolve everywhere."""
        url = urlsplit(self.outputs["ApiUrl"])
        api = (url.hostname or "").partition(".")[0]
        stage = quote(url.path.strip("/") or "$default")
        return f"{self.emulator.endpoint}/_aws/execute-api/{api}/{stage}"

    def environment(self) -> dict[str, str]:
        """The environment variables of a program that uses the stack. `.local/env` holds them."""
        return {
            **self.emulator.client_environment(),
            "WORKPOOL_STACK": self.stack,
            "WORKPOOL_API_URL": self.api_url,
            "WORKPOOL_RUNS_TABLE": self.outputs["RunsTableName"],
            "WORKPOOL_SUBMIT_FUNCTION": self.outputs["SubmitFunctionName"],
        }


def bootstrap(*, emulator: Emulator) -> None:
    """Prepare the account for its first deploy, as `cdk bootstrap` does, unless that is done."""
    if _is_bootstrapped(emulator):
        return
    _cdk(
        ["bootstrap", f"aws://{ACCOUNT}/{REGION}"],
        emulator=emulator,
        project=emulator.directory,  # Not the project: bootstrapping needs no synthesis.
        log=emulator.directory / "bootstrap.log",
    )


def deploy(
    *, project: Path, emulator: Emulator, context: Mapping[str, object] | None = None
) -> Deployment:
    """Deploy the one stack of `project`. Bootstrap the account first if that is not done.

    Each value of `context` is passed with `-c`, as JSON unless it is a string.
    """
    bootstrap(emulator=emulator)
    outputs = emulator.directory / "outputs.json"
    arguments = ["deploy", "--require-approval", "never", "--progress", "events"]
    arguments += ["--outputs-file", str(outputs), "--output", str(emulator.directory / "cdk.out")]
    for name, value in (context or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        arguments += ["--context", f"{name}={text}"]
    outputs.unlink(missing_ok=True)
    log = emulator.directory / "deploy.log"
    packages = install(project, to=emulator.directory / "packages", target="emulator")
    _cdk(arguments, emulator=emulator, project=project, log=log, packages=packages)
    [(stack, values)] = json.loads(outputs.read_text()).items()
    return Deployment(emulator=emulator, stack=stack, outputs=values)


def _is_bootstrapped(emulator: Emulator) -> bool:
    try:
        answer = emulator.client("cloudformation").describe_stacks(StackName="CDKToolkit")
    except ClientError:  # There is no such stack.
        return False
    return str(answer["Stacks"][0]["StackStatus"]).endswith("_COMPLETE")


def _cdk(
    arguments: Sequence[str],
    *,
    emulator: Emulator,
    project: Path,
    log: Path,
    packages: Path | None = None,
) -> None:
    task = f"cdk {arguments[0]}"
    command = [*cdk_command(), *arguments, "--no-color", "--no-notices", "--ci"]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=_cdk_environment(emulator)
            | ({"WORKPOOL_PACKAGES": str(packages)} if packages else {}),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # The app that it runs can then be killed with it.
        )
        try:
            code = process.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise LocalError(f"{task} did not end within {_TIMEOUT_S} s. Its log: {log}") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code:
        reason = deploy_failure(log.read_text(errors="replace"))
        raise LocalError(f"{task} failed: {reason}\nIts log: {log}")


def _cdk_environment(emulator: Emulator) -> dict[str, str]:
    here = Path(sys.executable).parent  # `app` in cdk.json must find this interpreter.
    return {
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(CHECKOUT / ".local" / "jsii"),
        **inherited_environment(),
        **emulator.client_environment(),
        "PATH": os.pathsep.join([str(here), os.environ.get("PATH", os.defpath)]),
        "CDK_DEFAULT_ACCOUNT": ACCOUNT,
        "CDK_DEFAULT_REGION": REGION,
        "CDK_HOME": str(emulator.directory / "cdk"),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CDK_DISABLE_VERSION_CHECK": "1",
        # `make check` and a deploy to AWS validate the template. Here it would take twice as long.
        "CDK_VALIDATION": "false",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
        "NODE_NO_WARNINGS": "1",
    }
