"""Names and functions: `@action` and `@completion` mark functions, and `find` finds them by name.

Only decorated functions in `actions/` and `completions/` can be run. A submit checks a name by
reading the module's source, so that submitting never runs user code. The module is imported only
where its function is called.
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
    """Mark a function in `functions/actions/` as an action: `def f(ctx: ActionContext, args)`.

    The action's name is `<module>.<function>`. It may be `async`. This returns the function itself,
    so a test can call it.
    """
    setattr(function, MARK, "action")
    return function


def completion(function: Function) -> Function:
    """Mark a function in `functions/completions/` as a completion handler:
    `def f(ctx: CompletionContext, context, result)`.

    The handler's name is `<module>.<function>`. It may be `async`. It may return TransactWriteItems
    entries: they are committed in one transaction with the mark that the handler ran.
    """
    setattr(function, MARK, "completion")
    return function


def name_of(function: str | Callable[..., Any], decorator: Decorator) -> str:
    """The name of a decorated function; a name is returned as it is. Raises UnknownAction or
    UnknownCompletion if the function is not decorated."""
    if isinstance(function, str):
        return function
    module = function.__module__.removeprefix(PACKAGES[decorator] + ".")
    name = f"{module}.{function.__name__}"
    if getattr(function, MARK, None) != decorator:
        raise UNKNOWN[decorator](f"{name} is not decorated with @{decorator}")
    return name


def check(name: str, decorator: Decorator) -> None:
    """Raise UnknownAction or UnknownCompletion if no decorated function has this name."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] not in decorated(decorator, match[1]):
        deployed = [
            f"{path.stem}.{function}"
            for path in sorted((ROOT / PACKAGES[decorator]).glob("*.py"))
            for function in sorted(decorated(decorator, path.stem))
        ]
        raise UNKNOWN[decorator](
            f"no {decorator} {name!r} is deployed; deployed are: "
            f"{', '.join(deployed[:20]) or 'none'} (functions decorated with @{decorator} in "
            f"functions/{PACKAGES[decorator]}/<module>.py, by <module>.<function>)"
        )


def find(name: str, decorator: Decorator) -> Callable[..., Any]:
    """Import the function's module, and return the function. Raises what `check` raises, and
    whatever the import raises."""
    check(name, decorator)
    module, _, function = name.partition(".")
    source = importlib.import_module(f"{PACKAGES[decorator]}.{module}")
    found: Callable[..., Any] | None = getattr(source, function, None)
    if found is None or getattr(found, MARK, None) != decorator:
        raise UNKNOWN[decorator](f"{name} is not decorated with @{decorator}")
    return found


@lru_cache(256)
def decorated(decorator: Decorator, module: str) -> frozenset[str]:
    """The names of the module's functions that have the decorator, read from the module's source.
    The source may import `workpool` or the decorator under another name."""
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
    library_names = {"workpool"}
    decorator_names = set()
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module in ("workpool", "workpool.lookup"):
            decorator_names |= {
                alias.asname or alias.name for alias in node.names if alias.name == decorator
            }
        if isinstance(node, ast.Import):
            library_names |= {
                alias.asname for alias in node.names if alias.name == "workpool" and alias.asname
            }

    def is_decorator(node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return node.value.id in library_names and node.attr == decorator
        return isinstance(node, ast.Name) and node.id in decorator_names

    return frozenset(
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(is_decorator(expression) for expression in node.decorator_list)
    )
