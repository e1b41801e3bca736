import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workpool import lookup
from workpool.errors import UnknownAction, UnknownCompletion

Code = Callable[[str, str, str], None]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Code]:
    """Drop a module into actions/ or completions/ of an otherwise empty functions/."""

    def forget() -> None:
        lookup.decorated.cache_clear()
        for name in [it for it in sys.modules if it.split(".")[0] in ("actions", "completions")]:
            del sys.modules[name]

    def write(package: str, module: str, text: str) -> None:
        (tmp_path / package / f"{module}.py").write_text(text)
        importlib.invalidate_caches()

    for package in ("actions", "completions"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(lookup, "ROOT", tmp_path)
    forget()
    yield write
    forget()


@pytest.mark.parametrize(
    "text",
    [
        "from workpool import action\n@action\ndef work(ctx, args): return 7",
        "from workpool.lookup import action\n@action\ndef work(ctx, args): return 7",
        "from workpool import action as job\n@job\ndef work(ctx, args): return 7",
        "import workpool\n@workpool.action\ndef work(ctx, args): return 7",
        "import workpool as w\n@w.action\ndef work(ctx, args): return 7",
        "from workpool import action\ndef other(f): return f\n"
        "@other\n@action\ndef work(ctx, args): return 7",
    ],
)
def test_a_decorated_function_is_found_however_the_decorator_was_imported(
    code: Code, text: str
) -> None:
    code("actions", "jobs", text)
    lookup.check("jobs.work", "action")
    assert lookup.find("jobs.work", "action")(None, {}) == 7


def test_an_async_function_is_found(code: Code) -> None:
    code("actions", "jobs", "from workpool import action\n@action\nasync def work(c, a): return 7")
    value = lookup.find("jobs.work", "action")(None, {})
    assert inspect.iscoroutine(value)
    assert asyncio.run(value) == 7


def test_a_package_may_hold_actions_in_its_init(code: Code, tmp_path: Path) -> None:
    (tmp_path / "actions" / "jobs").mkdir()
    code("actions", "jobs/__init__", "from workpool import action\n@action\ndef work(c, a): pass")
    lookup.check("jobs.work", "action")
    assert lookup.find("jobs.work", "action")(None, {}) is None


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("no decorator", "def work(ctx, args): pass"),
        (
            "the other decorator",
            "from workpool import completion as c\n@c\ndef work(x, y, z): pass",
        ),
        ("a namesake", "from elsewhere import action\n@action\ndef work(ctx, args): pass"),
        ("a namesake's attribute", "import other\n@other.action\ndef work(ctx, args): pass"),
        ("a decorated class", "from workpool import action\n@action\nclass work: pass"),
        ("a local function", "from workpool import action\ndef f():\n @action\n def work(): pass"),
        ("imported from elsewhere", "from actions.home import work"),
        ("absent", ""),
    ],
)
def test_only_functions_that_a_module_itself_decorates_can_be_run(
    code: Code, case: str, text: str
) -> None:
    code("actions", "home", "from workpool import action\n@action\ndef work(ctx, args): pass")
    code("actions", "jobs", text)
    for refusing in (lookup.check, lookup.find):
        with pytest.raises(UnknownAction, match=r"no action 'jobs\.work'"):
            refusing("jobs.work", "action")


def test_a_name_that_no_longer_stands_for_its_decorated_function_is_refused(code: Code) -> None:
    text = "from workpool import action\n@action\ndef work(ctx, args): pass\nwork = print"
    code("actions", "jobs", text)
    with pytest.raises(UnknownAction, match="not decorated"):
        lookup.find("jobs.work", "action")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "work",
        "jobs",
        "jobs.",
        ".work",
        "jobs.work.",
        "jobs.work\n",
        "jobs.sub.work",
        "../actions/jobs.work",
        "..jobs.work",
        "/etc/passwd.work",
        "actions/jobs.work",
        "jobs/../jobs.work",
        "jobs.work()",
        "os.system",
        "jöbs.work",
        "jobs\x00.work",
        "lambda:jobs",
    ],
)
def test_a_name_that_is_no_module_and_function_is_refused(code: Code, name: str) -> None:
    code("actions", "jobs", "from workpool import action\n@action\ndef work(ctx, args): pass")
    for refusing in (lookup.check, lookup.find):
        with pytest.raises(UnknownAction):
            refusing(name, "action")


def test_a_completion_handler_is_no_action_and_an_action_no_handler(code: Code) -> None:
    code("actions", "jobs", "from workpool import action\n@action\ndef work(ctx, args): pass")
    code("completions", "jobs", "from workpool import completion\n@completion\ndef done(*a): pass")
    lookup.check("jobs.done", "completion")
    with pytest.raises(UnknownCompletion):
        lookup.check("jobs.work", "completion")
    with pytest.raises(UnknownAction):
        lookup.check("jobs.done", "action")


def test_checking_a_name_runs_no_user_code(code: Code) -> None:
    code(
        "actions",
        "jobs",
        "from workpool import action\nraise OSError('no key')\n@action\ndef work(c, a): pass",
    )
    lookup.check("jobs.work", "action")
    with pytest.raises(OSError, match="no key"):
        lookup.find("jobs.work", "action")


def test_a_module_that_is_no_python_has_no_actions(code: Code) -> None:
    code("actions", "jobs", "def work(:")
    with pytest.raises(UnknownAction):
        lookup.check("jobs.work", "action")


def test_the_decorators_return_the_function_itself() -> None:
    def work() -> None: ...

    assert lookup.action(work) is work
    assert lookup.completion(work) is work


def test_a_decorated_function_has_the_name_to_submit(code: Code) -> None:
    code("actions", "jobs", "from workpool import action\n@action\ndef work(ctx, args): pass")
    code("completions", "jobs", "from workpool import completion\n@completion\ndef done(*a): pass")
    assert lookup.name_of(lookup.find("jobs.work", "action"), "action") == "jobs.work"
    done = lookup.find("jobs.done", "completion")
    assert lookup.name_of(done, "completion") == "jobs.done"
    assert lookup.name_of("any.name", "action") == "any.name"


def test_a_function_that_is_not_decorated_has_no_name_to_submit(code: Code) -> None:
    code("completions", "jobs", "from workpool import completion\n@completion\ndef done(*a): pass")
    with pytest.raises(UnknownAction, match="not decorated with @action"):
        lookup.name_of(lookup.find("jobs.done", "completion"), "action")
