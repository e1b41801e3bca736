"""What every command has: the pool that is meant, where its stack is, how the answer is told."""

import json
import sys
from collections.abc import Callable
from inspect import Signature, signature
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from typer import Option

from workpool.cli import tables
from workpool.client import IdempotentWorkpool

app = typer.Typer(
    name="workpool",
    help="Run idempotent actions until they complete, and operate their pools.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 mistyped, 3 a run that was waited for did "
    "not succeed, 4 the time was up, 130 Ctrl-C.\n\nThe stack is found by the options of each "
    "command, else by the environment. For the local AWS: source .local/env",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Call:
    """One call of a command: the pool that is meant, and where the answer goes."""

    def __init__(
        self,
        *,
        pool: Annotated[
            str,
            Option("--pool", "-p", help="Which pool.", autocompletion=lambda: _names()),
        ] = "default",
        as_json: Annotated[bool, Option("--json", help="Answer in JSON.")] = False,
        stack: Annotated[
            str | None,
            Option(envvar="WORKPOOL_STACK", help="Which stack.", rich_help_panel="Where"),
        ] = None,
        profile: Annotated[
            str | None, Option(help="Which AWS profile.", rich_help_panel="Where")
        ] = None,
        region: Annotated[
            str | None,
            Option(
                envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
                help="Which AWS region.",
                rich_help_panel="Where",
            ),
        ] = None,
    ) -> None:
        self.pool = IdempotentWorkpool(pool, stack=stack, profile=profile, region=region)
        self.as_json = as_json
        self.out = tables.console()

    def answer(self, shape: Any, *seen: RenderableType) -> None:
        """Print what a machine reads, or what a person does."""
        if self.as_json:
            print(json.dumps(shape, indent=2 if sys.stdout.isatty() else None), flush=True)
        else:
            self.out.print(*seen, sep="\n")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: it takes a Call, and the command the options of one."""
    everywhere = signature(Call).parameters
    own = list(signature(function).parameters.values())[1:]

    def called(**typed: Any) -> None:
        function(Call(**{name: typed.pop(name) for name in everywhere}), **typed)

    called.__doc__ = function.__doc__
    called.__signature__ = Signature([*own, *everywhere.values()])  # type: ignore[attr-defined]
    called.__annotations__ = {it.name: it.annotation for it in (*own, *everywhere.values())}
    app.command(function.__name__.replace("_", "-"))(called)
    return function


def _names() -> list[str]:
    """For the shell's completion, of the stack that the environment names."""
    try:
        return [it["name"] for it in IdempotentWorkpool().pools()]
    except Exception:  # A completion that fails completes nothing.
        return []
