"""Names to functions: what `@action` and `@completion` mark, and how a name finds it again.

Only decorated functions of `actions/` and `completions/` can be run. A submit checks a name in
the module's source, so that submitting never runs user code; the module is imported where its
function is called.
"""

import ast
import importlib
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from workpool.errors import UnknownAction, UnknownCompletion

Decorator = Literal["action", "completion"]
Function = TypeVar("Function", bound=Callable[..., Any])

ROOT = Path(__file__).parent.parent
PACKAGES: dict[Decorator, str] = {"action": "actions", "completion": "completions"}
UNKNOWN = {"action": UnknownAction, "completion": UnknownCompletion}
MARK = "__workpool__"

_NAME = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)", re.ASCII)


def action(function: Function) -> Function:
    """Mark a function of `functions/actions/` as an action: `def f(ctx: ActionContext, args)`.

    Its name is `<module>.<function>`. It may be `async`. The function itself is returned, so a
    test can call it.
    """
    setattr(function, MARK, "action")
    return function


def completion(function: Function) -> Function:
    """Mark a function of `functions/completions/` as a completion handler:
    `def f(ctx: CompletionContext, context, result)`.

    Its name is `<module>.<function>`. It may be `async`, and may return TransactWriteItems
    entries that are committed together with the mark that it ran.
    """
    setattr(function, MARK, "completion")
    return function


def name_of(function: str | Callable[..., Any], decorator: Decorator) -> str:
    """The name to submit for a name or a decorated function."""
    if isinstance(function, str):
        return function
    module = function.__module__.removeprefix(PACKAGES[decorator] + ".")
    name = f"{module}.{function.__name__}"
    if getattr(function, MARK, None) != decorator:
        raise UNKNOWN[decorator](f"{name} is not decorated with @{decorator}")
    return name


def check(name: str, decorator: Decorator) -> None:
    """Raise UnknownAction or UnknownCompletion unless the name's function can be run."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] not in decorated(decorator, match[1]):
        known = [
            f"{path.stem}.{function}"
            for path in sorted((ROOT / PACKAGES[decorator]).glob("*.py"))
            for function in sorted(decorated(decorator, path.stem))
        ]
        raise UNKNOWN[decorator](
            f"no {decorator} {name!r} is deployed; deployed are: "
            f"{', '.join(known[:20]) or 'none'} (functions decorated with @{decorator} in "
            f"functions/{PACKAGES[decorator]}/<module>.py, by <module>.<function>)"
        )


def find(name: str, decorator: Decorator) -> Callable[..., Any]:
    """The function itself, its module imported. Raises as `check`, and what the import raises."""
    check(name, decorator)
    module, _, function = name.partition(".")
    source = importlib.import_module(f"{PACKAGES[decorator]}.{module}")
    found: Callable[..., Any] | None = getattr(source, function, None)
    if found is None or getattr(found, MARK, None) != decorator:
        raise UNKNOWN[decorator](f"{name} is not decorated with @{decorator}")
    return found


@lru_cache(256)
def decorated(decorator: Decorator, module: str) -> frozenset[str]:
    """The names of a module's functions that carry the decorator, read from its source."""
    package = ROOT / PACKAGES[decorator]
    source = next(
        (
            path
            for path in (package / f"{module}.py", package / module / "__init__.py")
            if path.is_file()
        ),
        None,
    )
    if source is None:
        return frozenset()
    try:
        body = ast.parse(source.read_bytes()).body
    except SyntaxError:
        return frozenset()
    modules = {"workpool"}
    names = set()
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module in ("workpool", "workpool.lookup"):
            names |= {it.asname or it.name for it in node.names if it.name == decorator}
        if isinstance(node, ast.Import):
            modules |= {it.asname for it in node.names if it.name == "workpool" and it.asname}

    def marks(node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return node.value.id in modules and node.attr == decorator
        return isinstance(node, ast.Name) and node.id in names

    return frozenset(
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(marks(it) for it in node.decorator_list)
    )
