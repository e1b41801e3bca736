"""The commands `python -m local up | down | status`: the emulator with this project deployed.

They add to what emulator.py and deploy.py do only words on the terminal. The Makefile calls them.
"""

import random
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from local.deploy import Deployment, bootstrap, deploy
from local.emulator import Emulator
from local.errors import LocalError
from local.node import CHECKOUT, cdk_command, require_npm
from local.packages import install
from local.tables import create_examples

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(highlight=False, soft_wrap=True)

Directory = Annotated[Path, typer.Option(help="Where the emulator keeps its files.")]
HERE = CHECKOUT / ".local"


@app.command()
def up(
    directory: Directory = HERE,
    port: Annotated[int | None, typer.Option(envvar="PORT", min=1, max=65535)] = None,
    project: Annotated[Path, typer.Option(help="What to deploy.")] = CHECKOUT,
) -> None:
    """Start the emulator, unless it runs, and deploy the project to it."""
    cdk_command()
    emulator = Emulator(directory=directory, port=port)
    with _step("Starting the emulator", f"Emulator on {emulator.endpoint}"):
        started = emulator.start()
    try:
        with _step("Bootstrapping", "Bootstrapped"):
            bootstrap(emulator=emulator)
        with _step("Deploying", "Deployed"):
            deployment = deploy(project=project, emulator=emulator)
        create_examples(emulator.client("dynamodb"))
        environment = _write_environment(deployment)
    except BaseException:
        if started:
            emulator.stop()
        raise
    _tell(deployment, environment)


@app.command()
def down(directory: Directory = HERE) -> None:
    """Stop the emulator and everything it started."""
    emulator = Emulator(directory=directory)
    stopped = emulator.stop()
    for name in ("env", "outputs.json"):
        (emulator.directory / name).unlink(missing_ok=True)
    out.print("Stopped." if stopped else "Nothing runs.")


@app.command()
def status(directory: Directory = HERE) -> None:
    """Tell what runs. Exit code 1 if nothing does."""
    emulator = Emulator(directory=directory)
    if not emulator.running:
        out.print("Nothing runs. Start it: make up")
        raise typer.Exit(1)
    out.print(f"The emulator runs on {emulator.endpoint}, process {emulator.pid}.")
    environment = emulator.directory / "env"
    if environment.exists():
        out.print(f"To use it in a shell: . {_short(environment)}")


@app.command()
def demo(
    picture: Annotated[Path | None, typer.Option(help="Where to save its end as an SVG.")] = None,
) -> None:
    """Run the demo on a local AWS of its own. Exit code 1 if a claim did not hold."""
    from demo.run import run

    cdk_command()
    held = run(Console(highlight=False), picture=picture)
    raise typer.Exit(0 if held else 1)


@app.command()
def chaos(
    seed: Annotated[int | None, typer.Option(help="The same seed, the same plan.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the faults go on.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write it.")] = None,
    directory: Directory = HERE / "chaos",
) -> None:
    """Load the stack, harm it, and check every invariant. Exit code 1 if one does not hold."""
    from chaos.run import run

    cdk_command()
    chosen = random.randrange(1, 1_000_000) if seed is None else seed
    console = Console(highlight=False)
    held = run(
        console, seed=chosen, minutes=minutes, directory=directory.resolve(), json_file=json_file
    )
    raise typer.Exit(0 if held else 1)


@app.command(hidden=True)
def packages() -> None:
    """Install the packages of functions/requirements.txt for Lambda."""
    install(CHECKOUT, to=CHECKOUT / ".packages" / "lambda", target="lambda")


@app.command(hidden=True)
def check_node() -> None:
    """Fail with the reason if `npm ci` could not work."""
    require_npm()


def _write_environment(deployment: Deployment) -> Path:
    path = deployment.emulator.directory / "env"
    lines = ["# To source in a shell: this project's stack on the local emulator"]
    lines += ["unset AWS_PROFILE AWS_SESSION_TOKEN"]
    lines += [f"export {k}={shlex.quote(v)}" for k, v in deployment.environment().items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _tell(deployment: Deployment, environment: Path) -> None:
    emulator = deployment.emulator
    out.print(
        f"""
Stack         {deployment.stack}
AWS endpoint  {emulator.endpoint}
HTTP API      {deployment.api_url}
Outputs       {_short(emulator.directory / "outputs.json")}
Log           {_short(emulator.log)}

Try it:
  . {_short(environment)}
  {_EXAMPLE}
Stop it:
  make down""",
        markup=False,
    )


_EXAMPLE = """.venv/bin/workpool run hello.greet '{"name": "Ada"}' --wait"""


@contextmanager
def _step(doing: str, done: str) -> Iterator[None]:
    begin = time.monotonic()
    with out.status(f"{doing} ..."):
        yield
    out.print(f"{done} ({time.monotonic() - begin:.1f} s)")


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    signal.signal(signal.SIGTERM, _interrupt)  # ended from outside is tidied up like Ctrl-C
    try:
        app()
    except LocalError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
