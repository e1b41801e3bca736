"""What went wrong: one line that says what to do, and an exit code for scripts.

`main` explains every exception of a command with this module and prints the explanation.
"""

import json
import sys
from dataclasses import dataclass

import typer

from workpool.cli.arguments import Mistake
from workpool.cli.terminal import plain
from workpool.errors import Internal, Throttled, WorkpoolError

FAILED, MISTYPED, NOT_SUCCEEDED, TIMED_OUT, INTERRUPTED = 1, 2, 3, 4, 130

_ADVICE: dict[type[WorkpoolError], str] = {
    Throttled: "; tried four times: wait a moment, then try again",
    Internal: "; tried four times: is the stack up, and is this the right stack?",
}
_AWS_ADVICE = {
    "ParameterNotFound": "no such stack here: give --stack, --profile or --region "
    "(for the local AWS: source .local/env)",
    "AccessDeniedException": "these credentials have no right to find the stack: they need "
    "ssm:GetParameter",
    "ExpiredTokenException": "the credentials have expired: log in again",
    "UnrecognizedClientException": "AWS does not know these credentials: check --profile",
}


class Stop(Exception):
    """Raised by a command to end without success. `code` names the reason in JSON."""

    def __init__(self, code: str, message: str, *, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An error as the user sees it."""

    code: str
    message: str
    exit_code: int


def print_error(explanation: Explanation, *, as_json: bool) -> None:
    """Print one line on standard error."""
    if as_json:
        error = {"code": explanation.code, "message": explanation.message}
        print(json.dumps({"error": error}), file=sys.stderr, flush=True)
    else:
        print_line(explanation.message)


def print_line(message: str) -> None:
    """Print one line on standard error, under the command's name."""
    print(f"workpool: {plain(message)}", file=sys.stderr, flush=True)


def explain(error: Exception) -> Explanation | None:
    """The explanation of an error; None if the error is a bug of this program."""
    if isinstance(error, Stop):
        return Explanation(code=error.code, message=str(error), exit_code=error.exit_code)
    if isinstance(error, Mistake):
        return Explanation(code="Mistyped", message=str(error), exit_code=MISTYPED)
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "workpool"
        message = f"{error.format_message().rstrip('.')}; see {path} --help"
        return Explanation(code="Mistyped", message=message, exit_code=MISTYPED)
    if isinstance(error, typer.Abort):
        return Explanation(code="Aborted", message="nothing was done", exit_code=FAILED)
    if isinstance(error, WorkpoolError):
        if type(error) is WorkpoolError and isinstance(error.__cause__, Exception):
            return _explain_aws(error.__cause__) or Explanation(
                code=error.code, message=str(error), exit_code=FAILED
            )
        advice = _ADVICE.get(type(error), "")
        return Explanation(code=error.code, message=f"{error}{advice}", exit_code=FAILED)
    return _explain_aws(error)


def _explain_aws(error: Exception) -> Explanation | None:
    """The explanation of an error of boto3, raised before a request reaches the API: boto3 has no
    credentials, or the stack's addresses cannot be found."""
    from botocore import exceptions as aws

    message = None
    if isinstance(error, aws.ClientError):
        code = error.response["Error"]["Code"]
        message = _AWS_ADVICE.get(code, f"AWS refused to say where the stack is: {error}")
    elif isinstance(error, aws.ProfileNotFound):
        message = f"{error}: see ~/.aws/config"
    elif isinstance(error, aws.NoRegionError):
        message = "no AWS region: give --region, or set AWS_REGION"
    elif isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError):
        message = (
            "no AWS credentials: give --profile, or set AWS_PROFILE "
            "(for the local AWS: source .local/env)"
        )
    elif isinstance(error, aws.BotoCoreError):
        message = f"{error}"
    if message is None:
        return None
    return Explanation(code=type(error).__name__, message=message, exit_code=FAILED)
