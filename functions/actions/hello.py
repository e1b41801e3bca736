"""The smallest action. Try the workpool with it, then replace it with your own."""

from typing import Any

from workpool import ActionContext, action


@action
def greet(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Return a greeting. Raises KeyError, and so is retried, if `args` has no name."""
    return f"Hello, {args['name']}! This was attempt {ctx.retries + 1}."
