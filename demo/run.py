"""`make demo`: start everything, play the story, check the claims, and stop everything again.

It deploys a copy of the project with the demo's own code and configuration, so it does not depend
on what a team has in `functions/` and `cdk.json`. `__main__.py` calls it.
"""

import io
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.checks import Check, judge
from demo.orders import ACCOUNTS_TABLE, ORDERS_TABLE, orders
from demo.story import POOL, Story, play, provider
from demo.view import View, print_verdict
from local.deploy import Deployment, deploy
from local.emulator import Emulator
from local.node import CHECKOUT
from local.project import copy_project
from workpool.cli.picture import save_svg

HERE = Path(__file__).parent
DIRECTORY = CHECKOUT / ".local" / "demo"
MAX_PARALLELISM = 10
ACTION_TIMEOUT_S = 3
"""Short, so that the loss of the killed process is noticed soon."""

LIMIT_S = 170.0
SEED = 1


def run(console: Console, *, directory: Path = DIRECTORY, picture: Path | None = None) -> bool:
    """Run the demo. True if every claim held. `picture`: an SVG file for how it ended."""
    begin = time.monotonic()
    all_orders = orders(SEED)
    [killed] = [order for order in all_orders if order.fate == "killed"]
    emulator = Emulator(directory=directory, port=0)
    emulator.stop()  # Stop an emulator that a killed demo left behind.
    try:
        with provider(hold=killed.id) as payments:
            with console.status("Starting a local AWS ..."):
                emulator.start()
            console.print(f"A local AWS runs on {emulator.endpoint}")
            with console.status("cdk deploy ..."):
                deployment = _deploy(emulator, f"http://127.0.0.1:{payments.charges_port}")
            console.print(f"cdk deploy: stack {deployment.stack} is up")
            story = Story(
                deployment=deployment,
                provider=payments,
                orders=all_orders,
                max_parallelism=MAX_PARALLELISM,
            )
            story.prepare()
            with View(console, story).open() as view:
                try:
                    play(story, show=view.show, limit_s=LIMIT_S)
                except TimeoutError as error:  # The checks then say which claims are broken.
                    console.print(f"The story was given up: {error}")
            checks = judge(story.read_evidence())
    except KeyboardInterrupt:
        console.print("Stopping ...")
        raise
    finally:
        emulator.stop()
    print_verdict(console, checks)
    console.print(f"{time.monotonic() - begin:.0f} s, and everything that was started is stopped.")
    if picture is not None:
        _save(picture, view, checks)
    return all(check.held for check in checks)


def context(payments_url: str) -> dict[str, Any]:
    """What the demo's stack is configured with, as in `cdk.json`."""
    pool = {
        "maxParallelism": MAX_PARALLELISM,
        "actionTimeoutSeconds": ACTION_TIMEOUT_S,
        "environment": {"PAYMENTS_URL": payments_url},
        "tables": [ORDERS_TABLE, ACCOUNTS_TABLE],
    }
    return {"pools": {POOL: pool}}


def _deploy(emulator: Emulator, payments_url: str) -> Deployment:
    project = emulator.directory / "project"
    shutil.rmtree(project, ignore_errors=True)
    copy_project(project, code=HERE)
    return deploy(project=project, emulator=emulator, context=context(payments_url))


def _save(picture: Path, view: View, checks: Sequence[Check]) -> None:
    """Save the last picture and the verdict, as a terminal shows them."""
    recorder = Console(record=True, file=io.StringIO(), width=100, force_terminal=True)
    if view.last is not None:
        recorder.print(view.last)
    print_verdict(recorder, checks)
    save_svg(recorder, picture, title="make demo")
