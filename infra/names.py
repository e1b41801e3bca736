"""The physical names of a workpool's parts, and the addresses that follow from them.

The only module that composes them. The functions get names in their environment, with a literal
`{pool}` to fill in, because a list of all pools would not fit into its 4 KB. Tables and bucket get
no physical name, so that a stack can be deployed again beside its retained tables.
"""

from dataclasses import dataclass

from aws_cdk import Aws

#: The placeholder for a pool's name, which the functions fill in.
ANY_POOL = "{pool}"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one workpool.

    They begin with `stack`: the stack's own name, or the name of a workpool in another stack. The
    names of a pool continue with the pool and end in a word that no other part's name ends in.
    """

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
        """Of a part that exists once: a function, a queue, the event bus."""
        return f"{self.stack}-{part}"

    def dead_letters_of(self, part: str) -> str:
        """Of a shared part. A pool may be named like the part: its own is `<part>-dead-letters`."""
        return f"{self.stack}-dead-letters-{part}"

    @property
    def parked(self) -> str:
        """The queue for messages of the shared queues that no function can read."""
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
    """Of every event source mapping of the account and region, because Lambda chooses their ids."""
    return f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:event-source-mapping:*"
