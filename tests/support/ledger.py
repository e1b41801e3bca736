"""A table of the tests, in which the actions and completion handlers of `user_code` write what they
did.

`at` is the time in nanoseconds. A handler's counter, which it raises in its run's transaction, has
the word `completions` instead.
"""

from typing import Any

TABLE = "ledger"


class Ledger:
    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb

    def create(self) -> None:
        self._dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "run", "AttributeType": "S"},
                {"AttributeName": "at", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "run", "KeyType": "HASH"},
                {"AttributeName": "at", "KeyType": "RANGE"},
            ],
        )

    def what(self, run_id: str) -> list[str]:
        """What was written for the run, in order of time."""
        return [item["what"]["S"] for item in self._items(run_id) if "what" in item]

    def times(self, run_id: str, what: str) -> list[float]:
        """When `what` was written for the run, in epoch milliseconds."""
        items = [item for item in self._items(run_id) if item.get("what") == {"S": what}]
        return [int(item["at"]["S"]) / 1e6 for item in items]

    def completions(self, run_id: str) -> int:
        """How often a handler's transactional write took effect."""
        counts = [item["count"]["N"] for item in self._items(run_id) if "count" in item]
        return int(counts[0]) if counts else 0

    def all_completions(self) -> dict[str, int]:
        """`completions` of each run that has any."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=TABLE,
            FilterExpression="attribute_exists(#count)",
            ExpressionAttributeNames={"#count": "count"},
        )
        items = [item for page in pages for item in page["Items"]]
        return {item["run"]["S"]: int(item["count"]["N"]) for item in items}

    @staticmethod
    def most_at_once(spans: list[tuple[float, float]]) -> int:
        """The most of these (start, end) that overlapped."""
        changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
        running = [0]
        for _, change in changes:
            running.append(running[-1] + change)
        return max(running)

    def _items(self, run_id: str) -> list[dict[str, Any]]:
        answer = self._dynamodb.query(
            TableName=TABLE,
            KeyConditionExpression="#run = :run",
            ExpressionAttributeNames={"#run": "run"},
            ExpressionAttributeValues={":run": {"S": run_id}},
            ConsistentRead=True,
        )
        return list(answer["Items"])
