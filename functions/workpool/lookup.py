"""Names and functions: `@action` and `@completion` mark functions, and `find` finds them by name.

Only decorated functions in `actions/` and `completions/` can be run. A submit checks a name by
reading the module's source, so that submitting never runs user code. The module is imported only
where its function is called.
"""

import ast
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
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

MAX_LISTED = 20
"""How many of the deployed names a message lists."""


def action(function: Function) -> Function:
    """Mark a function in `functions/actions/` as an action: `def f(ctx: ActionContext, args)`.

    The action's name is `<module>.<function>`. It may be `async`. This returns the function itself,
    so a test can call it.
    """
    return _marked(function, "action")


def completion(function: Function) -> Function:
    """Mark a function in `functions/completions/` as a completion handler:
    `def f(ctx: CompletionContext, context, result)`.

    The handler's name is `<module>.<function>`. It may be `async`. It may return TransactWriteItems
    entries: they are committed in one transaction with the mark that the handler ran.
    """
    return _marked(function, "completion")


def _marked(function: Function, decorator: Decorator) -> Function:
    if not callable(function):
        raise TypeError(
            f"@{decorator} needs a function, got {function!r}: what stands under it must return one"
        )
    setattr(function, MARK, decorator)
    return function


def name_of(function: str | Callable[..., Any], decorator: Decorator) -> str:
    """The name of a decorated function; a name is returned as it is. Raises UnknownAction or
    UnknownCompletion if the function is not decorated."""
    if isinstance(function, str):
        return function
    given = getattr(function, "__name__", repr(function))
    package = PACKAGES[decorator] + "."
    module = str(getattr(function, "__module__", "")).removeprefix(package)
    loaded = sys.modules.get(package + module)
    if getattr(function, MARK, None) == decorator and getattr(loaded, given, None) is function:
        return f"{module}.{given}"
    # A decorator may have replaced the function by one of another name, or by no function at all.
    for name, source in sorted(sys.modules.items()):
        module_name = name.removeprefix(package)
        if name.startswith(package) and "." not in module_name:
            for attribute, value in list(vars(source).items()):
                if value is function and attribute in decorated(decorator, module_name):
                    return f"{module_name}.{attribute}"
    if getattr(function, MARK, None) != decorator:
        raise UNKNOWN[decorator](f"{module}.{given} is not decorated with @{decorator}")
    return f"{module}.{given}"


def check(name: str, decorator: Decorator) -> None:
    """Raise UnknownAction or UnknownCompletion if no decorated function has this name."""
    module, _, function = name.partition(".")
    if module.isidentifier() and function in decorated(decorator, module):
        return
    names = [
        f"{module}.{function}"
        for module in _modules(decorator)
        for function in sorted(decorated(decorator, module))
    ]
    listed = ", ".join(names[:MAX_LISTED]) or "none"
    if len(names) > MAX_LISTED:
        listed += f" and {len(names) - MAX_LISTED} more"
    raise UNKNOWN[decorator](
        f"no {decorator} {name!r} is deployed; deployed are: {listed} (functions decorated with "
        f"@{decorator} in functions/{PACKAGES[decorator]}/<module>.py, by <module>.<function>)"
    )


def _modules(decorator: Decorator) -> list[str]:
    """The names of the package's modules that can be imported."""
    package = ROOT / PACKAGES[decorator]
    files = {path.stem for path in package.glob("*.py")}
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    return sorted(name for name in files | folders if name.isidentifier())


def find(name: str, decorator: Decorator) -> Callable[..., Any]:
    """Import the function's module, and return the function. Raises what `check` raises, and
    whatever the import raises."""
    check(name, decorator)
    module, _, function = name.partition(".")
    source = importlib.import_module(f"{PACKAGES[decorator]}.{module}")
    found: Callable[..., Any] | None = getattr(source, function, None)
    if not callable(found):
        raise UNKNOWN[decorator](
            f"{name} is {found!r} when its module is imported, not a function decorated with "
            f"@{decorator}"
        )
    # A decorator over ours may return a function without the mark. It is the one to call, unless
    # the module gives the name to something else, too.
    if getattr(found, MARK, None) != decorator and not decorated(decorator, module)[function]:
        raise UNKNOWN[decorator](f"{name} is not decorated with @{decorator}: it is {found!r}")
    return found


@lru_cache(256)
def decorated(decorator: Decorator, module: str) -> dict[str, bool]:
    """The names of the module's functions that have the decorator, read from the module's source,
    and of each whether the module gives the name to nothing else.
    The source may import `workpool` or the decorator under another name."""
    package = ROOT / PACKAGES[decorator]
    source = next(
        (
            path
            # Like Python: of two with the same name, the package is imported.
            for path in (package / module / "__init__.py", package / f"{module}.py")
            if path.is_file()
        ),
        None,
    )
    if source is None:
        return {}
    try:
        statements = list(_statements(ast.parse(source.read_bytes()).body))
    except (SyntaxError, ValueError, RecursionError):
        return {}
    library_names = {"workpool"}
    decorator_names = set()
    for node in statements:
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

    def decorates(node: ast.stmt) -> bool:
        """`@action def name(...)`, or `name = action(...)` as for a partial."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return any(is_decorator(expression) for expression in node.decorator_list)
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        return isinstance(value, ast.Call) and is_decorator(value.func)

    bindings = defaultdict(list)
    for node in statements:
        for name in _bound_names(node):
            bindings[name].append(decorates(node))
    return {name: all(its) for name, its in bindings.items() if any(its)}


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    """The statements that run when the module is imported, also those in `if`, `try` and the like,
    but not those in functions and classes."""
    for node in body:
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            yield from _statements(ast.iter_child_nodes(node))


def _bound_names(node: ast.stmt) -> Iterator[str]:
    """The names that a statement gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    else:
        targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
        for target in filter(None, targets):
            yield from (it.id for it in ast.walk(target) if isinstance(it, ast.Name))
