"""The command `python -m demo`, which `make demo` calls. run.py does the work."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from demo.run import run
from local.command import run_command
from local.node import cdk_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    picture: Annotated[
        Path | None, typer.Option(help="An SVG file for the last picture and the verdict.")
    ] = None,
) -> None:
    """Run the demo on a local AWS of its own. Exit code 1 if a claim does not hold."""
    cdk_command()
    held = run(Console(highlight=False), picture=picture)
    raise typer.Exit(0 if held else 1)


if __name__ == "__main__":
    run_command(app)
