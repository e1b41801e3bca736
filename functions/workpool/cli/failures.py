"""What went wrong, in one line that says what to do; and as what exit code a script learns it."""

import json
import sys
from dataclasses import dataclass

import typer

from workpool.cli.arguments import Mistake
from workpool.cli.tables import plain
from workpool.errors import Internal, Throttled, WorkpoolError

FAILED, MISTYPED, NOT_SUCCEEDED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 130

_ADVICE: dict[type[WorkpoolError], str] = {
    Throttled: "; it was tried four times: wait a little",
    Internal: "; it was tried four times: is the stack up, and this the right one?",
}
_BY_CODE = {
    "ParameterNotFound": "no such stack here: give --stack, --profile or --region "
    "(on the local AWS: . .local/env)",
    "AccessDeniedException": "these credentials may not find the stack: they need ssm:GetParameter",
    "ExpiredTokenException": "the credentials have expired: log in again",
    "UnrecognizedClientException": "AWS does not know these credentials: check --profile",
}


class Stop(Exception):
    """A command ends without what was asked for. `code` is its word in JSON."""

    def __init__(self, code: str, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An error as it is told."""

    code: str
    message: str
    exit_code: int


def say(told: Told, *, as_json: bool) -> None:
    """One line on standard error."""
    if as_json:
        line = json.dumps({"error": {"code": told.code, "message": told.message}})
    else:
        line = f"workpool: {plain(told.message)}"
    print(line, file=sys.stderr, flush=True)


def told(error: Exception) -> Told | None:
    """The error as it is told; None for one that is nobody's but the program's."""
    if isinstance(error, Stop):
        return Told(code=error.code, message=str(error), exit_code=error.exit_code)
    if isinstance(error, Mistake):
        return Told(code="Mistyped", message=str(error), exit_code=MISTYPED)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        help_of = context.command_path if context else "workpool"
        message = f"{error.format_message().rstrip('.')}; see {help_of} --help"
        return Told(code="Mistyped", message=message, exit_code=MISTYPED)
    if isinstance(error, typer.Abort):
        return Told(code="Aborted", message="nothing was done", exit_code=FAILED)
    if isinstance(error, WorkpoolError):
        advice = _ADVICE.get(type(error), "")
        return Told(code=error.code, message=f"{error}{advice}", exit_code=FAILED)
    return _of_aws(error)


def _of_aws(error: Exception) -> Told | None:
    """What boto3 raises before a request reaches the pool: who am I, where is the stack."""
    from botocore import exceptions as aws

    advice = None
    if isinstance(error, aws.ClientError):
        code = error.response["Error"]["Code"]
        advice = _BY_CODE.get(code, f"AWS refused to say where the stack is ({code})")
    elif isinstance(error, aws.ProfileNotFound):
        advice = f"{error}: see ~/.aws/config"
    elif isinstance(error, aws.NoRegionError):
        advice = "no AWS region: give --region, or set AWS_REGION"
    elif isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        advice = "no AWS credentials: give --profile, or set AWS_PROFILE (local AWS: . .local/env)"
    elif isinstance(error, aws.BotoCoreError):
        advice = f"{error}"
    if advice is None:
        return None
    return Told(code=type(error).__name__, message=advice, exit_code=FAILED)
