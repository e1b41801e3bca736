"""The sweeper function: the only module that invokes it."""

import json

from workpool.aws import clients
from workpool.aws.environment import environment


def start_cancel_all(pool: str) -> None:
    """Have the sweeper walk the pool for cancelAll now. Does not wait for it."""
    clients.client("lambda").invoke(
        FunctionName=f"{environment().stack}-sweeper",
        InvocationType="Event",
        Payload=json.dumps({"cancel": pool}),
    )
