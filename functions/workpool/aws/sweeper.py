"""Invokes the sweeper function. No other module does."""

import json

from workpool.aws import clients
from workpool.aws.environment import environment


def start_cancel_all(pool: str) -> None:
    """Let the sweeper walk the pool for cancelAll now. Does not wait for the walk."""
    clients.client("lambda").invoke(
        FunctionName=f"{environment().stack}-sweeper",
        InvocationType="Event",
        Payload=json.dumps({"cancel": pool}),
    )
