"""Actions to start from. An action is a decorated function; raise to be tried again."""

from typing import Any

from workpool import ActionContext, action


@action
def greet(ctx: ActionContext, args: dict[str, Any]) -> dict[str, Any]:
    """The smallest action: answers with a greeting."""
    ctx.logger.info("greeting", extra={"attempt": ctx.retries + 1})
    return {"greeting": f"Hello, {args.get('name', 'world')}!"}
