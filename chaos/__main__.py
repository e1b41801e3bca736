"""The command `python -m chaos`, which `make chaos` calls. run.py does the work."""

import random
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from chaos.run import run
from chaos.stage import DIRECTORY
from local.command import run_command
from local.node import cdk_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def chaos(
    seed: Annotated[
        int | None, typer.Option(help="The same seed makes the same plan. Default: a random one.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long load and faults last.")] = 2,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file for the report as JSON.")
    ] = None,
    directory: Annotated[
        Path, typer.Option(help="The directory of the emulator's files.")
    ] = DIRECTORY,
) -> None:
    """Load the stack, cause faults, and check every invariant. Exit code 1 if one is broken."""
    cdk_command()
    chosen = random.randrange(1, 1_000_000) if seed is None else seed
    console = Console(highlight=False)
    held = run(
        console, seed=chosen, minutes=minutes, directory=directory.resolve(), json_file=json_file
    )
    raise typer.Exit(0 if held else 1)


if __name__ == "__main__":
    run_command(app)
