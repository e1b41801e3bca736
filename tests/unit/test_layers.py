"""Which module may import which, and what an import of the library and each function loads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUNCTIONS = ROOT / "functions"

LAYERS = {
    "workpool.errors": set(),
    "workpool.context": set(),
    "workpool.lookup": {"workpool.errors"},
    "workpool.core": {"workpool.errors"},
    "workpool.aws": {"workpool.core", "workpool.errors"},
    "workpool.verbs": {
        "workpool.aws",
        "workpool.core",
        "workpool.context",
        "workpool.errors",
        "workpool.lookup",
    },
    "handlers": {"workpool.verbs", "workpool.aws", "workpool.core", "workpool.errors"},
    "workpool.cli": {"workpool.client", "workpool.core", "workpool.errors"},
}
"""Each layer, and the layers below it that it may import; always also itself."""

CLIENT = {"workpool.client", "workpool._http", "workpool._in_process", "workpool._verbs"}
BEYOND = {"infra", "local", "demo", "chaos", "tests", "actions", "completions"}
"""What the library knows nothing about."""


def modules() -> Iterator[str]:
    for path in sorted(FUNCTIONS.rglob("*.py")):
        parts = path.relative_to(FUNCTIONS).with_suffix("").parts
        if parts[0] in ("workpool", "handlers"):
            yield ".".join(part for part in parts if part != "__init__")


def layer_of(module: str) -> str | None:
    return next((it for it in LAYERS if module == it or module.startswith(it + ".")), None)


def imports(source: str) -> Iterator[str]:
    """The modules that a source imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (it.name for it in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{it.name}" for it in node.names)


def upward(module: str, source: str) -> list[str]:
    """The imports of a module that its layer forbids."""
    layer = layer_of(module)
    found = []
    for name in imports(source):
        if name.split(".")[0] in BEYOND:
            found.append(name)
        if layer is None:
            continue
        if layer == "workpool.core" and name.split(".")[0] not in {
            "workpool",
            *sys.stdlib_module_names,
        }:
            found.append(name)
        known = name in CLIENT or layer_of(name) is not None
        below = LAYERS[layer] | {layer}
        if known and not any(name == it or name.startswith(it + ".") for it in below):
            found.append(name)
    return found


def path_of(module: str) -> Path:
    path = FUNCTIONS.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("module", list(modules()))
def test_a_module_imports_its_own_layer_and_those_below_it(module: str) -> None:
    assert upward(module, path_of(module).read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("workpool.core.run", "from workpool.aws import store"),
        ("workpool.core.run", "import boto3"),
        ("workpool.aws.store", "def f():\n    from workpool.verbs.status import status"),
        ("workpool.verbs.submit", "from workpool.client import IdempotentWorkpool"),
        ("workpool.verbs.submit", "import handlers.api"),
        ("handlers.api", "from infra.config import WorkpoolConfig"),
        ("workpool.client", "import actions.payments"),
        ("workpool.cli.tail", "from workpool.verbs import stats"),
    ],
)
def test_an_import_upward_is_found(module: str, source: str) -> None:
    assert upward(module, source)


@pytest.mark.parametrize(
    ("folder", "others"),
    [
        ("local", {"demo", "chaos", "tests"}),
        ("demo", {"chaos", "tests"}),
        ("chaos", {"demo", "tests"}),
        ("tests/e2e", {"demo", "chaos"}),
        ("tests/outage", {"demo", "chaos"}),
    ],
)
def test_the_emulator_is_shared_and_the_demo_and_chaos_are_not(
    folder: str, others: set[str]
) -> None:
    paths = list((ROOT / folder).rglob("*.py"))
    assert paths
    for path in paths:
        assert not {name.split(".")[0] for name in imports(path.read_text())} & others, path


CALLER = {
    "workpool._in_process",
    "workpool._verbs",
    "workpool.client",
    "workpool.context",
    "workpool.core",
    "workpool.core.clock",
    "workpool.core.item",
    "workpool.core.request",
    "workpool.core.run",
    "workpool.errors",
    "workpool.lookup",
}
"""What `import workpool` loads, in a caller's program and in each function."""

THIRD_PARTY = {
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "certifi",
    "dateutil",
    "jmespath",
    "s3transfer",
    "six",
    "typing_extensions",
    "urllib3",
}
"""What a function loads beside the library and the standard library: boto3 and Powertools."""

LOADED = {
    "api": """
        aws.bus aws.clients aws.concurrency aws.counters aws.environment aws.lambda_actions
        aws.logs aws.metrics aws.open_runs aws.overrides aws.payloads aws.pools aws.queues
        aws.store aws.sweeper aws.trace core.changes core.message core.raised core.result
        core.retry verbs.cancel verbs.control verbs.listing verbs.redrive verbs.stats
        verbs.status verbs.submit""",
    "completion": """
        aws.clients aws.environment aws.logs aws.payloads aws.pools aws.queues aws.store
        core.message core.raised core.retry verbs.complete verbs.patience
        verbs.process_state verbs.promise verbs.user_code""",
    "consumer": """
        aws.clients aws.environment aws.lambda_actions aws.logs aws.payloads aws.pools
        aws.queues aws.retrier aws.store core.message core.raised core.result core.retry
        verbs.attempt verbs.patience verbs.process_state verbs.promise verbs.user_code
        verbs.watchdog""",
    "dead_letters": """
        aws.bus aws.clients aws.environment aws.logs aws.payloads aws.queues aws.retrier
        aws.store core.changes core.hints core.message core.retry verbs.dead_letters
        verbs.look verbs.relay""",
    "counters": """
        aws.clients aws.counters aws.environment aws.logs aws.pools core.changes core.retry""",
    "deployment": """
        aws.clients aws.concurrency aws.environment aws.logs aws.open_runs aws.overrides aws.pools
        aws.queues core.message core.retry verbs.control verbs.deployment""",
    "relay": """
        aws.bus aws.clients aws.environment aws.logs aws.payloads aws.queues aws.retrier
        aws.unreadable core.changes core.hints core.message core.retry verbs.relay""",
    "relay_retry": """
        aws.bus aws.clients aws.environment aws.logs aws.payloads aws.queues aws.retrier
        aws.store core.changes core.hints core.message core.retry verbs.look verbs.relay""",
    "stats": """
        aws.clients aws.counters aws.environment aws.logs aws.metrics aws.open_runs
        aws.overrides aws.pools core.changes core.retry verbs.stats""",
    "submit": """
        aws.clients aws.environment aws.lambda_actions aws.logs aws.payloads aws.pools
        aws.store aws.trace core.raised core.result core.retry verbs.submit""",
    "sweeper": """
        aws.bus aws.clients aws.concurrency aws.counters aws.environment aws.logs
        aws.metrics aws.open_runs aws.overrides aws.payloads aws.pools aws.queues
        aws.retrier aws.store aws.sweeper aws.unreadable core.changes core.hints
        core.message core.retry verbs.cancel verbs.control verbs.orphans verbs.relay
        verbs.stats verbs.status verbs.sweep""",
}
"""What each function loads of the library, beside CALLER: a new name here costs each cold start."""


def loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads in a fresh interpreter; of third parties the package."""
    program = f"""
import sys
before = set(sys.modules)
{statement}
for name in set(sys.modules) - before:
    print(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=FUNCTIONS, capture_output=True, text=True, check=True
    )
    own = ("workpool.", "handlers.")
    names = {it if it.startswith(own) else it.split(".")[0] for it in done.stdout.split()}
    return names - sys.stdlib_module_names - {"workpool", "handlers", "__mp_main__"}


def test_importing_the_library_loads_nothing_that_only_functions_need() -> None:
    assert loaded_by("import workpool") == CALLER


@pytest.mark.parametrize("handler", LOADED)
def test_a_function_loads_what_it_needs(handler: str) -> None:
    own = {f"workpool.{name}" for name in LOADED[handler].split()}
    packages = {".".join(name.split(".")[:2]) for name in own}
    others = {f"handlers.{handler}"}
    loaded = loaded_by(f"import handlers.{handler}")
    others |= {"handlers.records", "handlers.stream"} & loaded
    assert loaded == CALLER | THIRD_PARTY | own | packages | others


def test_every_function_is_listed() -> None:
    handlers = {path.stem for path in (FUNCTIONS / "handlers").glob("*.py")}
    assert handlers - {"__init__", "records", "stream"} == set(LOADED)
