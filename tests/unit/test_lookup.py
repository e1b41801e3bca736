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


OTHERS = """
import functools
from workpool import action
def unlike(function):
    def wrapper(*given): return function(*given)
    return wrapper
def nothing(function): return None
"""


@pytest.mark.parametrize(
    "text",
    [
        "if True:\n @action\n def work(ctx, args): return 7",
        "if False:\n pass\nelse:\n @action\n def work(ctx, args): return 7",
        "try:\n @action\n def work(ctx, args): return 7\nfinally:\n pass",
        "try:\n raise ValueError\nexcept ValueError:\n @action\n def work(c, a): return 7",
        "match 1:\n case 1:\n  @action\n  def work(ctx, args): return 7",
        "if True:\n @action\n def work(c, a): return 7\nelse:\n @action\n def work(c, a): return 8",
        "@unlike\n@action\ndef work(ctx, args): return 7",
        "@action\n@unlike\ndef work(ctx, args): return 7",
        "def seven(number, ctx, args): return number\nwork = action(functools.partial(seven, 7))",
        "@action\n@functools.partial(functools.partial, lambda f, *a: f(*a))\n"
        "def work(ctx, args): return 7",
        "@functools.lru_cache\n@action\ndef work(ctx, args): return 7",
    ],
)
def test_what_python_can_import_and_call_can_be_run_and_named(code: Code, text: str) -> None:
    code("actions", "jobs", OTHERS + text)
    lookup.check("jobs.work", "action")
    found = lookup.find("jobs.work", "action")
    assert found(None, () if "lru_cache" in text else {}) == 7
    assert lookup.name_of(found, "action") == "jobs.work"


def test_a_decorator_imported_in_a_try_is_the_decorator(code: Code) -> None:
    text = "try:\n from workpool import action\nexcept ImportError:\n pass\n"
    code("actions", "jobs", text + "@action\ndef work(ctx, args): return 7")
    assert lookup.find("jobs.work", "action")(None, {}) == 7


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("@nothing\n@action\ndef work(c, a): pass", UnknownAction, r"jobs\.work is None"),
        (
            "@action\n@nothing\ndef work(c, a): pass",
            TypeError,
            "@action needs a function, got None",
        ),
        ("if False:\n @action\n def work(c, a): pass", UnknownAction, r"jobs\.work is None"),
        (
            "if False:\n @action\n def work(c, a): pass\nelse:\n def work(c, a): pass",
            UnknownAction,
            "not decorated with @action",
        ),
        (
            "@action\ndef work(c, a): pass\nfor work in [print]: pass",
            UnknownAction,
            "not decorated",
        ),
        ("@action\ndef work(c, a): pass\nfrom os import getpid as work", UnknownAction, "not dec"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(
    code: Code, text: str, error: type[Exception], reason: str
) -> None:
    code("actions", "jobs", OTHERS + text)
    with pytest.raises(error, match=reason):
        lookup.find("jobs.work", "action")


def test_of_a_module_and_a_package_of_one_name_the_package_counts_as_in_python(
    code: Code, tmp_path: Path
) -> None:
    head = "from workpool import action\n@action\ndef "
    (tmp_path / "actions" / "jobs").mkdir()
    code("actions", "jobs", head + "hidden(c, a): pass")
    code("actions", "jobs/__init__", head + "work(c, a): return 7")
    assert lookup.find("jobs.work", "action")(None, {}) == 7
    with pytest.raises(UnknownAction):
        lookup.check("jobs.hidden", "action")


def test_letters_of_any_language_may_name_a_module_and_a_function(code: Code) -> None:
    code("actions", "jöbs", "from workpool import action\n@action\ndef größe(c, a): return 7")
    assert lookup.find("jöbs.größe", "action")(None, {}) == 7


def test_only_names_that_can_be_run_are_listed_and_what_is_left_out_is_counted(
    code: Code, tmp_path: Path
) -> None:
    head = "from workpool import action\n"
    (tmp_path / "actions" / "package").mkdir()
    for module in ("send-mail", "my.jobs", "package/__init__"):
        code("actions", module, head + "@action\ndef work(c, a): pass")
    with pytest.raises(UnknownAction, match=r"deployed are: package\.work \(functions"):
        lookup.check("send-mail.work", "action")
    lookup.decorated.cache_clear()
    code("actions", "many", head + "".join(f"@action\ndef f{it}(c, a): pass\n" for it in range(24)))
    with pytest.raises(UnknownAction, match=r"many\.f\d+ and 5 more \(functions"):
        lookup.check("my.jobs.work", "action")


def test_a_module_that_cannot_be_parsed_for_another_reason_has_no_actions(code: Code) -> None:
    code("actions", "jobs", "\0")
    with pytest.raises(UnknownAction):
        lookup.check("jobs.work", "action")


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
