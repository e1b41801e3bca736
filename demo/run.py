"""`make demo`: set the stage, tell the story, judge it, clear the stage whatever happens."""

import io
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.checks import Check, judge
from demo.orders import orders
from demo.story import POOL, Story, provider, tell
from demo.view import View, verdict
from local.deploy import deploy
from local.emulator import Emulator
from local.node import CHECKOUT

DIRECTORY = CHECKOUT / ".local" / "demo"
ACTION_TIMEOUT_S = 3
"""Short, so that the killed process is missed soon: its message comes back 70 s later."""

LIMIT_S = 170.0
SEED = 1


def run(console: Console, *, directory: Path = DIRECTORY, picture: Path | None = None) -> bool:
    """Run the demo. True if every claim held. Its end is saved as a picture if one is wanted."""
    begin = time.monotonic()
    its = orders(SEED)
    [killed] = [order for order in its if order.fate == "killed"]
    emulator = Emulator(directory=directory, port=_free_port())
    emulator.stop()  # One that was left by a demo that was killed.
    try:
        with provider(hold=killed.id) as payments:
            with console.status("Starting a local AWS ..."):
                emulator.start()
            console.print(f"A local AWS runs on {emulator.endpoint}")
            pools = _pools(f"http://127.0.0.1:{payments.charges_port}")
            with console.status("cdk deploy ..."):
                deployment = deploy(project=CHECKOUT, emulator=emulator, context={"pools": pools})
            console.print(f"cdk deploy: stack {deployment.stack} is up")
            story = Story(
                deployment=deployment,
                provider=payments,
                orders=its,
                max_parallelism=pools[POOL]["maxParallelism"],
            )
            story.prepare()
            with View(console, story).open() as view:
                try:
                    tell(story, show=view.show, limit_s=LIMIT_S)
                except TimeoutError as error:  # What does not end breaks a claim, too: say which.
                    console.print(f"The story was given up: {error}")
            checks = judge(story.evidence())
    except KeyboardInterrupt:
        console.print("Stopping ...")
        raise
    finally:
        emulator.stop()
    verdict(console, checks)
    console.print(f"{time.monotonic() - begin:.0f} s, and everything that was started is stopped.")
    if picture is not None:
        _save(picture, view, checks)
    return all(check.held for check in checks)


def _save(picture: Path, view: View, checks: Sequence[Check]) -> None:
    """The last picture and the verdict, as a terminal shows them."""
    recorder = Console(record=True, file=io.StringIO(), width=100, force_terminal=True)
    if view.last is not None:
        recorder.print(view.last)
    verdict(recorder, checks)
    recorder.save_svg(str(picture), title="make demo")


def _pools(payments_url: str) -> dict[str, Any]:
    """The pools of cdk.json; the default one is told where the provider is."""
    configured = json.loads((CHECKOUT / "cdk.json").read_text())["context"]["pools"]
    pools: dict[str, Any] = {
        **configured,
        POOL: {
            **configured[POOL],
            "actionTimeoutSeconds": ACTION_TIMEOUT_S,
            "environment": {"PAYMENTS_URL": payments_url},
        },
    }
    return pools


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
