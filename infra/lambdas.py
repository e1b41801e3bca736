"""How every function of the stack is made: runtime, logs, layer, environment, and the asset.

The only place that declares a function and the only one that touches files. It copies
`functions/` as a folder and knows its code by handler strings alone. Called by the parts, which
say what differs: name, handler, timeout, memory.
"""

import ast
import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import files
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import PoolConfig

FUNCTIONS = Path(__file__).parent.parent / "functions"

#: Powertools and what it imports. No boto3: Lambda's runtime brings it.
LAYER_DISTRIBUTIONS = ("aws-lambda-powertools", "jmespath", "typing-extensions")

_NO_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc", ".*", "*.egg-info", "pools.json")


class Lambdas(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Mapping[str, str],
        pools: tuple[PoolConfig, ...],
        reserved: bool,
        tracing: bool,
        source: Path = FUNCTIONS,
    ) -> None:
        super().__init__(scope, construct_id)
        self._tracing = lambda_.Tracing.ACTIVE if tracing else None
        self._environment = dict(environment)
        self._code = lambda_.Code.from_asset(
            str(staged_functions(source, pools, reserved=reserved, tracing=tracing))
        )
        self._layer = lambda_.LayerVersion(
            self,
            "Layer",
            code=lambda_.Code.from_asset(str(staged_layer())),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            compatible_architectures=[lambda_.Architecture.ARM_64],
            description="Powertools for AWS Lambda",
        )
        self._packages = [
            lambda_.LayerVersion(
                self,
                "Packages",
                code=lambda_.Code.from_asset(str(directory)),
                compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
                compatible_architectures=[lambda_.Architecture.ARM_64],
                description="What functions/requirements.txt names",
            )
            for directory in _packages(source)
        ]

    def function(
        self,
        scope: Construct,
        construct_id: str = "Function",
        *,
        name: str,
        handler: str,
        description: str,
        timeout_seconds: int,
        memory_mb: int = 256,
        reserved_concurrency: int | None = None,
        environment: Mapping[str, str] | None = None,
        policies: Sequence[str] = (),
        user_code: bool = False,
    ) -> lambda_.Function:
        """A function that may write its own log and nothing else; `stack.py` grants the rest.

        `user_code`: it runs actions or completion handlers, and so has their packages.
        """
        log_group = logs.LogGroup(
            scope,
            f"{construct_id}Logs",
            log_group_name=f"/aws/lambda/{name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = iam.Role(
            scope,
            f"{construct_id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_managed_policy_arn(scope, f"{construct_id}Policy{n}", arn)
                for n, arn in enumerate(policies)
            ],
        )
        log_group.grant_write(role)
        return lambda_.Function(
            scope,
            construct_id,
            function_name=name,
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=self._code,
            handler=handler,
            layers=[self._layer, *(self._packages if user_code else [])],
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(timeout_seconds),
            memory_size=memory_mb,
            reserved_concurrent_executions=reserved_concurrency,
            environment={**self._environment, **(environment or {})},
            tracing=self._tracing,
        )


def _check_syntax(source: Path) -> None:
    """What does not parse would be deployed, and then not be found."""
    for path in [*source.glob("actions/**/*.py"), *source.glob("completions/**/*.py")]:
        try:
            ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f"{path.relative_to(source.parent)}" + (f", line {line}" if line else "")
            sys.exit(f"{where}: {getattr(error, 'msg', error)}")


def _packages(source: Path) -> list[Path]:
    """The directory of installed packages for user code, if functions/requirements.txt names any.

    `make` installs them, for Lambda; a deploy to the emulator names another by environment.
    """
    requirements = source / "requirements.txt"
    lines = requirements.read_text().splitlines() if requirements.exists() else []
    if not any(line.partition("#")[0].strip() for line in lines):
        return []
    directory = Path(os.environ.get("WORKPOOL_PACKAGES", source.parent / ".packages" / "lambda"))
    if not directory.is_dir():
        sys.exit("The packages of functions/requirements.txt are not installed: make packages")
    return [directory]


def staged_functions(
    source: Path, pools: tuple[PoolConfig, ...], *, reserved: bool, tracing: bool = False
) -> Path:
    """The code and, beside its packages, the pools: too long for an environment."""
    staged = _temporary_directory()
    _check_syntax(source)
    shutil.copytree(source, staged, ignore=_NO_SOURCE, dirs_exist_ok=True)
    entries = {pool.name: pool.for_functions(reserved=reserved, tracing=tracing) for pool in pools}
    (staged / "pools.json").write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
    return staged


def staged_layer() -> Path:
    """Copied from the installed packages: no Docker, no public layer, whose ARN is regional."""
    staged = _temporary_directory()
    for distribution in LAYER_DISTRIBUTIONS:
        for file in files(distribution) or ():
            # Left out: commands (outside the packages), compiled code, and the notes of whoever
            # installed it, which would change the asset from one machine to the next.
            if (
                ".." in file.parts
                or "__pycache__" in file.parts
                or file.name in {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
            ):
                continue
            target = staged / "python" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    return staged


def _temporary_directory() -> Path:
    """Lives as long as the synth: the CDK copies an asset when its first user is built."""
    path = tempfile.mkdtemp(prefix="workpool-asset-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)
