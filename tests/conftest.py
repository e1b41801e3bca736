"""A machine without AWS: fake credentials, no profile, no region but the tests' own. And how
`make test` shares the tests out among its processes."""

import contextlib
import os
import signal

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "CDK_VALIDATION": "false",  # Half of each synth's time, and `make check` has it.
}
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith("WORKPOOL_")]:
    del os.environ[name]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background jobs and their children ignore it: tests that press Ctrl-C would wait.
    signal.signal(signal.SIGINT, signal.default_int_handler)


pytest.register_assert_rewrite("tests.support")  # Its assertions show their values, too.
pytest_plugins = ["workpool.testing"]

LANES = ("e2e", "outage", "chaos", "integration", "local", "synth", "model", "faults", "unit")
"""Each directory's tests share an emulator, a synthesis or moto's state, and so a process where
`make test` uses several. In the order in which they begin: the longest first."""

TIMED = ("e2e", "outage", "chaos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        lane = item.path.parent.name
        return LANES.index(lane) if lane in LANES else len(LANES)

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some lanes have clocks in them: what goes on beside them takes second place."""
    second = item.path.parent.name not in TIMED
    if second and "PYTEST_XDIST_WORKER" in os.environ and not os.nice(0):
        os.nice(10)


class ByLane(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid.split("/")[1]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByLane:
    return ByLane(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """A process that is ended by Ctrl-C leaves what it started: emulators, a chaos run."""
    if session := config.pluginmanager.getplugin("dsession"):
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):  # Gone meanwhile, or another user's.
                ran = process.environ().get("PYTEST_XDIST_TESTRUNUID")
                if ran == session.nodemanager.testrunuid and process.pid != os.getpid():
                    process.kill()
