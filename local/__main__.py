"""The commands `python -m local up | down | status`: the emulator with this project deployed.

They add only words on the terminal to what emulator.py and deploy.py do. The Makefile calls them.
"""

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from local.command import run_command
from local.deploy import Deployment, bootstrap, deploy
from local.emulator import Emulator
from local.node import CHECKOUT, cdk_command, require_npm
from local.packages import install
from local.tables import create_example_table

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Start, use and stop a local AWS with this project deployed to it.",
)
out = Console(highlight=False, soft_wrap=True)

Directory = Annotated[Path, typer.Option(help="The directory of the emulator's files.")]
HERE = CHECKOUT / ".local"

_GREET = """.venv/bin/workpool run hello.greet '{"name": "Ada"}' --wait"""
_POOLS = ".venv/bin/workpool pools"


@app.command()
def up(
    directory: Directory = HERE,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="PORT",
            min=1,
            max=65535,
            help="The emulator's port. Default: that of the running emulator, else 4566.",
        ),
    ] = None,
    project: Annotated[Path, typer.Option(help="The project to deploy.")] = CHECKOUT,
) -> None:
    """Start the emulator unless it runs, and deploy the project to it."""
    cdk_command()
    emulator = Emulator(directory=directory, port=port)
    with _step("Starting the emulator", f"Emulator on {emulator.endpoint}"):
        started = emulator.start()
    try:
        with _step("Bootstrapping", "Bootstrapped"):
            bootstrap(emulator=emulator)
        with _step("Deploying", "Deployed"):
            deployment = deploy(project=project, emulator=emulator)
        create_example_table(emulator.client("dynamodb"))
        environment = _write_environment(deployment)
    except BaseException:
        if started:
            emulator.stop()
        raise
    _print_how_to_use(deployment, environment, project)


@app.command()
def down(directory: Directory = HERE) -> None:
    """Stop the emulator and everything that it started."""
    emulator = Emulator(directory=directory)
    stopped = emulator.stop()
    for name in ("env", "outputs.json"):
        (emulator.directory / name).unlink(missing_ok=True)
    out.print("Stopped." if stopped else "Nothing runs.")


@app.command()
def status(directory: Directory = HERE) -> None:
    """Say whether the emulator runs. Exit code 1 if it does not."""
    emulator = Emulator(directory=directory)
    if not emulator.running:
        out.print("Nothing runs. Start it: make up")
        raise typer.Exit(1)
    out.print(f"The emulator runs on {emulator.endpoint}, process {emulator.pid}.")
    environment = emulator.directory / "env"
    if environment.exists():
        out.print(f"To use it in a shell: . {_short(environment)}")


@app.command(hidden=True)
def packages() -> None:
    """Install the packages of functions/requirements.txt for Lambda."""
    install(CHECKOUT, to=CHECKOUT / ".packages" / "lambda", target="lambda")


@app.command(hidden=True)
def check_node() -> None:
    """Fail with the reason if `npm ci` cannot work."""
    require_npm()


def _write_environment(deployment: Deployment) -> Path:
    path = deployment.emulator.directory / "env"
    lines = ["# For a shell to read: this project's stack on the local emulator"]
    lines += ["unset AWS_PROFILE AWS_SESSION_TOKEN"]
    lines += [f"export {k}={shlex.quote(v)}" for k, v in deployment.environment().items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _print_how_to_use(deployment: Deployment, environment: Path, project: Path) -> None:
    emulator = deployment.emulator
    example = (project / "functions" / "actions" / "hello.py").exists()  # A team may delete it.
    out.print(
        f"""
Stack         {deployment.stack}
AWS endpoint  {emulator.endpoint}
HTTP API      {deployment.api_url}
Outputs       {_short(emulator.directory / "outputs.json")}
Log           {_short(emulator.log)}

Try it:
  . {_short(environment)}
  {_GREET if example else _POOLS}
Stop it:
  make down""",
        markup=False,
    )


@contextmanager
def _step(doing: str, done: str) -> Iterator[None]:
    begin = time.monotonic()
    with out.status(f"{doing} ..."):
        yield
    out.print(f"{done} ({time.monotonic() - begin:.1f} s)")


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    run_command(app)
