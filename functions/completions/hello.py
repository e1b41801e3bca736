"""The smallest completion handler. Replace it with your own."""

from typing import Any

from workpool import CompletionContext, completion


@completion
def greeted(ctx: CompletionContext, context: Any, result: dict[str, Any]) -> None:
    """Log how the run ended. A handler may also return DynamoDB writes: they are made once."""
    print(f"Run {ctx.run_id} ended: {result['type']}")
