"""What all commands share: the app, and the options that say which pool of which stack is meant and
how to print the answer."""

import json
import sys
from collections.abc import Callable
from inspect import Signature, signature
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from typer import Option

from workpool.cli import terminal
from workpool.client import IdempotentWorkpool

EPILOG = """\
Exit codes: 0 done; 1 refused or failed; 2 a mistake in the command line; 3 a run did not succeed; \
4 --timeout was reached; 130 Ctrl-C. Only wait and run --wait use 3 and 4.

Every command has the options --pool, --json, --stack, --profile and --region. Without --stack, \
--profile and --region, the environment decides which deployment is used. To use the local AWS, \
first run: source .local/env
"""

app = typer.Typer(
    name="workpool",
    help="Run idempotent actions until they complete, and operate their pools.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Session:
    """The pool that one call of a command works with, and the way it prints its answer. The
    parameters are the options that all commands share."""

    def __init__(
        self,
        *,
        pool: Annotated[
            str,
            Option("--pool", "-p", help="The pool.", autocompletion=lambda: _complete_pools()),
        ] = "default",
        as_json: Annotated[
            bool, Option("--json", help="Print JSON instead of text, also for errors.")
        ] = False,
        stack: Annotated[
            str | None,
            Option(
                envvar="WORKPOOL_STACK",
                help="The name of the stack. Default: Workpool.",
                rich_help_panel="Deployment",
            ),
        ] = None,
        profile: Annotated[
            str | None,
            Option(
                help="The AWS profile with the credentials and the region.",
                rich_help_panel="Deployment",
            ),
        ] = None,
        region: Annotated[
            str | None,
            Option(
                envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
                help="The AWS region of the stack.",
                rich_help_panel="Deployment",
            ),
        ] = None,
    ) -> None:
        self.pool = IdempotentWorkpool(pool, stack=stack, profile=profile, region=region)
        self.stack, self.profile, self.region = stack, profile, region
        self.as_json = as_json
        self.out = terminal.console()

    def print_answer(self, shape: Any, *renderables: RenderableType) -> None:
        """Print the answer: as JSON if --json was given, else the renderables for a person."""
        if self.as_json:
            print(json.dumps(shape, indent=2 if sys.stdout.isatty() else None), flush=True)
        else:
            self.out.print(*renderables, sep="\n")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command of the app. The function's first parameter is a Session; in the
    command the options of the Session take its place."""
    shared = signature(Session).parameters
    own = list(signature(function).parameters.values())[1:]

    def run_command(**values: Any) -> None:
        function(Session(**{name: values.pop(name) for name in shared}), **values)

    parameters = [*own, *shared.values()]
    run_command.__doc__ = function.__doc__
    run_command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run_command.__annotations__ = {one.name: one.annotation for one in parameters}
    app.command(function.__name__.replace("_", "-"))(run_command)
    return function


def _complete_pools() -> list[str]:
    """The names of the pools, for completion in the shell. The environment names the stack: the
    options are not known yet."""
    try:
        return [pool["name"] for pool in IdempotentWorkpool().pools()]
    except Exception:  # A shell that asks for completions can show no error.
        return []
