"""`make chaos`: deploy, submit the load, cause the faults, heal, wait for rest, and judge.

It stops everything that it started, whatever happens. `__main__.py` calls it.
"""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from chaos import rest
from chaos.checks import Check, judge
from chaos.clock import Clock
from chaos.evidence import Evidence, gather
from chaos.load import Load
from chaos.monkey import Monkey
from chaos.plan import Plan, plan
from chaos.stage import DIRECTORY, STACK, Stage
from chaos.view import View, print_report
from chaos.watch import Passing, Processes, Statuses, Stream, Watcher

REST_LIMIT_S = 300.0
STATUS_EVERY_S = 0.35


def run(
    console: Console,
    *,
    seed: int,
    minutes: float,
    directory: Path = DIRECTORY,
    json_file: Path | None = None,
) -> bool:
    """Run chaos once. True if every invariant held."""
    planned = plan(seed=seed, seconds=minutes * 60)
    console.print(
        f"Seed {seed}, {minutes:g} minutes: "
        f"{len(planned.submits)} submits, {len(planned.faults)} faults",
        highlight=False,
    )
    stage = Stage(directory)
    try:
        with console.status("Starting a local AWS and deploying to it ..."):
            stage.open()
        console.print(f"Deployed to {stage.emulator.endpoint}", highlight=False)
        os.environ |= stage.deployment.environment()  # The Python client's transactions need it.
        show = Show(stage=stage, plan=planned)
        evidence = show.play(console)
        checks = judge(evidence)
        broken = [check for check in checks if not check.held]
        if broken:
            kept = directory / f"evidence-{seed}.json"
            kept.write_text(json.dumps(_timeline(evidence, broken), indent=1, default=str))
            console.print(f"All that is known of the runs concerned: {kept}", highlight=False)
    finally:
        stage.close()
    print_report(console, seed=seed, monkey=show.monkey, checks=checks)
    if json_file is not None:
        shape = _report(planned, show, checks)
        json_file.write_text(json.dumps(shape, indent=1, default=str) + "\n")
    return not broken


@dataclass
class Show:
    """The load, the monkey and the watchers of one chaos run."""

    stage: Stage
    plan: Plan

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.processes = Processes(self.stage)
        self.stream = Stream(self.stage)
        self.load = Load(self.stage, self.plan, self.clock, self.stream.open_runs)
        self.passing = Passing(self.stage)
        self.statuses = Statuses(self.stage)
        self._dice = random.Random(f"statuses {self.plan.seed}")
        self.repeated = 0
        self.rest_s = 0.0
        self.monkey = Monkey(
            stage=self.stage,
            plan=self.plan,
            clock=self.clock,
            load=self.load,
            processes=self.processes,
            stream=self.stream,
            passing=self.passing,
            statuses=self.statuses,
        )

    def play(self, console: Console) -> Evidence:
        """Do everything from the first submit to the last read."""
        watchers = [
            Watcher(self.processes.read, every_s=0),
            Watcher(self.stream.read, every_s=0.3),
            Watcher(self.passing.read, every_s=0.7),
            Watcher(self._read_any_status, every_s=STATUS_EVERY_S),
        ]
        title = f"Chaos, seed {self.plan.seed}"
        for watcher in watchers:
            watcher.start()
        try:
            with console.status("Warming up ..."):
                self.load.warm_up()
                self.stage.invoke(f"{STACK}-sweeper", {"overdueSeconds": 3600})
            with View(console, self.monkey, title=title).open() as view:
                self._load_and_harm(view)
                left, self.repeated, self.rest_s = rest.come_to_rest(
                    self.stage,
                    limit_s=REST_LIMIT_S,
                    show=lambda left, repeated: view.show(
                        f"healed: {left.line()}; the sweeper repeated {repeated}"
                    ),
                )
        finally:
            for watcher in watchers:
                watcher.stop()
        self.stream.read()
        with console.status("Reading every run's status ..."):
            return gather(
                stage=self.stage,
                submitted=self.load.results,
                seen=self.statuses.seen,
                read=partial(self.statuses.read, include="attempts"),
                lives=self.processes.lives,
                changes=self.stream.changes,
                dues=self.stream.dues,
                monkey=self.monkey,
                left=left,
            )

    def _load_and_harm(self, view: View) -> None:
        """Run the load and the monkey at the same time until both have ended, then heal."""
        self.clock.start()
        errors: list[Exception] = []

        def start(act: Callable[[], None]) -> threading.Thread:
            def body() -> None:
                try:
                    act()
                except Exception as error:
                    errors.append(error)

            thread = threading.Thread(target=body, daemon=True)
            thread.start()
            return thread

        threads = [start(self.load.run), start(self.monkey.run)]
        try:
            while any(thread.is_alive() for thread in threads) and not errors:
                view.show(self._line())
                time.sleep(0.3)
        finally:
            self.load.stop()
            self.monkey.stop()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        view.show(self._line())
        self.monkey.heal()

    def _line(self) -> str:
        ended = len(self.stream.changes) - self.stream.open_runs()
        return (
            f"{len(self.load.results)} submitted, {ended} of {len(self.stream.changes)} ended, "
            f"{sum(self.monkey.hits.values())} faults"
        )

    def _read_any_status(self) -> None:
        """Read any run's status. The checks compare those that were read after the run ended."""
        accepted = self.load.accepted()
        if accepted:
            chosen = self._dice.choice(accepted)
            self.statuses.read(chosen.submit.pool, str(chosen.run_id))


def _report(planned: Plan, show: Show, checks: list[Check]) -> dict[str, Any]:
    return {
        "seed": planned.seed,
        "seconds": planned.seconds,
        "held": all(check.held for check in checks),
        "broken": [check.name for check in checks if not check.held],
        "submits": len(planned.submits),
        "faults": {
            name: {"hits": show.monkey.hits[name], "foundNothing": show.monkey.misses[name]}
            for name in sorted({*show.monkey.hits, *show.monkey.misses})
        },
        "hintsRepeatedAtTheEnd": show.repeated,
        "secondsToRest": round(show.rest_s, 1),
        "invariants": [asdict(check) | {"held": check.held} for check in checks],
        "done": [asdict(done) for done in show.monkey.done],
    }


def _timeline(evidence: Evidence, broken: list[Check]) -> dict[str, Any]:
    """Everything that is known of each run that a breach names."""
    text = "\n".join(breach for check in broken for breach in check.breaches)
    by_key = {key: key.partition("#")[2] for key in {*evidence.table, *evidence.changes}}
    return {
        "breaches": {check.name: check.breaches for check in broken},
        "runs": {
            key: {
                "submitted": [asdict(it) for it in evidence.submitted if it.run_id == run_id],
                "statuses": [
                    asdict(seen)
                    for seen in evidence.history.get((key.partition("#")[0], run_id), [])
                ],
                "changes": [
                    {
                        name: value
                        for name, value in it.item.items()
                        if name not in ("args", "context", "run")
                    }
                    for it in evidence.changes.get(key, ())
                ],
                "starts": [asdict(it) for it in evidence.starts if it.run_id == run_id],
                "effects": evidence.effects.get(run_id),
                "calls": evidence.calls.get(run_id),
                "canceled": [asdict(it) for it in evidence.canceled if it.run_id == run_id],
            }
            for key, run_id in by_key.items()
            if run_id in text
        },
    }
