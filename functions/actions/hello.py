"""The smallest action: try the pool with it, then put your own beside it."""

from typing import Any

from workpool import ActionContext, action


@action
def greet(ctx: ActionContext, args: dict[str, Any]) -> str:
    """Answers with a greeting, unless there is nobody to greet."""
    return f"Hello, {args['name']}! This was attempt {ctx.retries + 1}."
