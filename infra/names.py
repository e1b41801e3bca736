"""The physical names of a stack's parts, and the addresses that follow from them.

The only place that composes them: the functions get theirs by environment, with a literal
`{pool}` to fill in, since a list of pools would not fit into its 4 KB. Tables have no name of
their own, so that a stack can be deployed again beside its retained tables.
"""

from dataclasses import dataclass

from aws_cdk import Aws

#: Stands for the pool in what the functions fill in themselves.
ANY_POOL = "{pool}"


@dataclass(frozen=True, slots=True)
class Names:
    """Names in one stack. A pool's begin with stack and pool and end in what no other part's do."""

    stack: str

    # Of a pool

    def work_queue(self, pool: str) -> str:
        return f"{self.stack}-{pool}-work"

    def dead_letters(self, pool: str) -> str:
        return f"{self.stack}-{pool}-dead-letters"

    def parked_queue(self, pool: str) -> str:
        return f"{self.stack}-{pool}-parked"

    def consumer(self, pool: str) -> str:
        return f"{self.stack}-{pool}-consumer"

    def retrier(self, pool: str) -> str:
        return f"{self.stack}-{pool}-retrier"

    # Of the stack

    def part(self, part: str) -> str:
        """Of what there is once: functions, queues and the event bus."""
        return f"{self.stack}-{part}"

    def dead_letters_of(self, part: str) -> str:
        """Of a shared part; not `<part>-dead-letters`, which a pool named like it would have."""
        return f"{self.stack}-dead-letters-{part}"

    @property
    def parked(self) -> str:
        """The queue of what nobody can read on the queues that all pools share."""
        return f"{self.stack}-parked"

    @property
    def parameter(self) -> str:
        return f"/workpool/{self.stack}"


def queue_url(name: str) -> str:
    return f"https://sqs.{Aws.REGION}.{Aws.URL_SUFFIX}/{Aws.ACCOUNT_ID}/{name}"


def retrier_arn(name: str) -> str:
    return f"arn:{Aws.PARTITION}:states:{Aws.REGION}:{Aws.ACCOUNT_ID}:stateMachine:{name}"


def executions_arn(name: str) -> str:
    """Of every execution of a state machine."""
    return f"arn:{Aws.PARTITION}:states:{Aws.REGION}:{Aws.ACCOUNT_ID}:execution:{name}:*"


def mappings_arn() -> str:
    """Of every event source mapping of the account and region: their ids are Lambda's own."""
    return f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:event-source-mapping:*"
