"""Turn a seed into a plan: when each run is submitted, how it behaves, and when each fault comes.

Pure: the same seed and length give the same plan, however fast the machine is.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

Via = Literal["sdk", "http", "transaction", "torn"]
"""How a run is submitted. torn: in a transaction that is made to fail."""

Reuse = Literal["same", "different"]

RATE = 4.0
"""Submits per second, on average."""

FAULTS_EVERY_S = 1.2
HOLD_S = 1.5
"""How long a queue's function is paused so that messages collect in the queue."""

LONG_HANDLERS_FROM_S = 100
"""A plan of this length has handlers that never succeed: they are parked after two minutes."""

POOLS: dict[str, dict[str, Any]] = {
    name: {**settings, "statsWindowMs": 3_600_000}  # It covers the whole run, for the recount.
    for name, settings in {
        "fast": {"maxParallelism": 8, "actionTimeoutSeconds": 2},
        "slow": {"maxParallelism": 3, "actionTimeoutSeconds": 4, "maxRetries": 2},
        "one": {"maxParallelism": 1, "actionTimeoutSeconds": 2},
    }.items()
}
COMPLETIONS = {"timeoutSeconds": 3, "memoryMb": 256, "maxConcurrency": 4}
ACTION, HANDLER = "chaos.work", "chaos.effect"
DEFAULT_MAX_RETRIES, DEFAULT_BACKOFF_MS, DEFAULT_BASE = 4, 250.0, 2.0

_SHARE = {"fast": 0.7, "slow": 0.2, "one": 0.1}
_SLEEP_MS = {"fast": (0, 900), "slow": (200, 1800), "one": (0, 500)}


@dataclass(frozen=True, kw_only=True)
class Submit:
    """One submit. `reuses`: its idempotency key is that of an earlier submit, with the same request
    or with a different one."""

    at: float
    label: str
    pool: str
    via: Via
    args: dict[str, Any]
    options: dict[str, Any]
    reuses: Reuse | None = None

    @property
    def key(self) -> str | None:
        """The idempotency key."""
        key = self.options.get("idempotencyKey")
        return None if key is None else str(key)

    @property
    def max_retries(self) -> int:
        own = self.options.get("maxRetries", POOLS[self.pool].get("maxRetries"))
        return DEFAULT_MAX_RETRIES if own is None else int(own)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault. `name` is a method of the monkey, and `what` its parameters.

    `pick`, from 0 up to 1, chooses among the processes or runs that there are at that moment.
    """

    at: float
    name: str
    what: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    seed: int
    seconds: float
    submits: tuple[Submit, ...]
    faults: tuple[Fault, ...]


def plan(*, seed: int, seconds: float) -> Plan:
    """The plan of a seed."""
    return Plan(
        seed=seed,
        seconds=seconds,
        submits=tuple(_submits(random.Random(f"load {seed}"), seconds)),
        faults=tuple(_faults(random.Random(f"faults {seed}"), seconds)),
    )


def _submits(dice: random.Random, seconds: float) -> list[Submit]:
    submits: list[Submit] = []
    keyed: list[Submit] = []
    at = 0.0
    while (at := at + dice.expovariate(RATE)) < seconds:
        label = f"r{len(submits):04}"
        reused = _reuse(dice, keyed, at, label)
        submit = reused or _submit(dice, at, label, seconds)
        submits.append(submit)
        if reused is None and submit.key is not None and submit.via in ("sdk", "http"):
            keyed.append(submit)
    return submits


def _submit(dice: random.Random, at: float, label: str, seconds: float) -> Submit:
    pool = dice.choices(list(_SHARE), list(_SHARE.values()))[0]
    via: Via = dice.choices(("sdk", "http", "transaction", "torn"), (40, 30, 20, 10))[0]
    fails = dice.choices((0, 1, 2, 9), (62, 20, 12, 6))[0]
    args = {
        "label": label,
        "ms": dice.randint(*_SLEEP_MS[pool]),
        "fails": fails,
        "how": dice.choices(("raise", "exit", "overrun", "refuse"), (60, 16, 12, 12))[0],
        "at": dice.choice(("begun", "midway", "done")),
    }
    options: dict[str, Any] = {}
    if dice.random() < 0.8:
        options["maxRetries"] = dice.randint(0, 3)
    if dice.random() < 0.6:
        options |= {"initialBackoffMs": dice.choice((25, 250, 1000, 2500)), "base": 1.5}
    if dice.random() < 0.2:
        options["runAfterMs"] = dice.randint(500, 15_000)
    if dice.random() < 0.5:
        options["annotation"] = label
    if dice.random() < 0.15:
        options["fairnessKey"] = dice.choice(("tenant-1", "tenant-2"))
    if dice.random() < 0.8:
        options |= {"onComplete": HANDLER, "context": _context(dice, at, seconds)}
    if dice.random() < 0.7:
        options["idempotencyKey"] = f"key-{label}"
    return Submit(at=at, label=label, pool=pool, via=via, args=args, options=options)


def _context(dice: random.Random, at: float, seconds: float) -> dict[str, int]:
    kind = dice.random()
    if kind < 0.03:
        return {"dies": 1, "raises": 0}
    if kind < 0.13:
        return {"dies": 0, "raises": dice.randint(1, 3)}
    never = kind < 0.15 and seconds >= LONG_HANDLERS_FROM_S and at < seconds / 3
    return {"dies": 0, "raises": 99 if never else 0}


def _reuse(dice: random.Random, keyed: list[Submit], at: float, label: str) -> Submit | None:
    """Sometimes a submit with an earlier key, for the same request or for another one."""
    if not keyed or dice.random() >= 0.06:
        return None
    first = dice.choice(keyed)
    same = dice.random() < 0.6
    args = first.args if same else first.args | {"label": label, "ms": first.args["ms"] + 1}
    return Submit(
        at=at,
        label=label,
        pool=first.pool,
        via=dice.choice(("sdk", "http")),
        args=args,
        options=first.options,
        reuses="same" if same else "different",
    )


_WEIGHTS = {
    "kill": 26,
    "cancel": 20,
    "duplicate": 14,
    "drop": 12,
    "events_again": 10,
    "stale": 8,
    "pause": 8,
    "relay_off": 4,
    "sweep": 4,
    "pause_pool": 5,
    "scale": 7,
    "cancel_all": 2,
    "redrive": 2,
}


def _faults(dice: random.Random, seconds: float) -> list[Fault]:
    """Faults at random times, but none in the first seconds, and a restart in each minute."""
    faults: list[Fault] = []
    at = 4.0
    while (at := at + dice.expovariate(1 / FAULTS_EVERY_S)) < seconds - 1:
        name = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        faults += _fault(dice, at, name)
    for minute in range(max(1, round(seconds / 60))):
        at = min(seconds * 0.9, minute * 60 + dice.uniform(25, 50) * min(1, seconds / 60))
        faults.append(Fault(at=at, name="restart"))
    return sorted(faults, key=lambda fault: fault.at)


def _fault(dice: random.Random, at: float, name: str) -> list[Fault]:
    pick = dice.random()
    pool = dice.choice(list(POOLS))
    if name == "kill":
        whose = dice.choices(("consumer", "completion", "relay", ""), (70, 12, 8, 10))[0]
        return [Fault(at=at, name=name, what={"whose": whose, "pick": pick})]
    if name == "cancel":
        which = dice.choices(("open", "any", "unknown"), (70, 20, 10))[0]
        return [Fault(at=at, name=name, what={"which": which, "pick": pick})]
    if name in ("duplicate", "drop"):
        names = [*POOLS, "completions", *(["relay-retry"] if name == "drop" else [])]
        queue = dice.choice(names)
        what = {"queue": queue, "most": dice.randint(1, 4), "copies": dice.randint(1, 3)}
        return [
            Fault(at=at, name="pause", what={"queue": queue}),
            Fault(at=at + HOLD_S, name=name, what=what),
            Fault(at=at + HOLD_S + 0.1, name="resume", what={"queue": queue}),
        ]
    if name == "events_again":
        what = {"most": dice.randint(1, 4), "copies": dice.randint(1, 3), "pick": pick}
        return [Fault(at=at, name=name, what=what)]
    if name == "stale":
        return [Fault(at=at, name=name, what={"pool": pool, "most": dice.randint(1, 4)})]
    if name == "pause":
        queue = dice.choice([*POOLS, "completions"])
        return [
            Fault(at=at, name="pause", what={"queue": queue}),
            Fault(at=at + dice.uniform(2, 6), name="resume", what={"queue": queue}),
        ]
    if name == "relay_off":
        return [
            Fault(at=at, name="relay_off"),
            Fault(at=at + dice.uniform(2, 5), name="relay_on"),
        ]
    if name == "pause_pool":
        return [
            Fault(at=at, name="change", what={"pool": pool, "paused": True}),
            Fault(at=at + dice.uniform(2, 6), name="change", what={"pool": pool, "paused": False}),
        ]
    if name == "scale":
        normal = int(POOLS[pool]["maxParallelism"])
        limit = dice.randint(1, normal + 3)
        return [
            Fault(at=at, name="change", what={"pool": pool, "maxParallelism": limit}),
            Fault(
                at=at + dice.uniform(4, 12),
                name="change",
                what={"pool": pool, "maxParallelism": normal},
            ),
        ]
    if name in ("cancel_all", "redrive"):
        return [Fault(at=at, name=name, what={"pool": pool})]
    return [Fault(at=at, name="sweep", what={"overdueSeconds": dice.choice((1, 3, 10))})]
