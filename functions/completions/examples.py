"""Completion handlers to start from. One is called exactly once in effect for each run."""

from typing import Any

from workpool import CompletionContext, completion


@completion
def note(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    """The smallest handler: logs how the run ended."""
    ctx.logger.info("the run ended", extra={"result": result["type"], "context": context})
