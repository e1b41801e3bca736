"""The function that enqueues runs, for callers that may use every pool.

It has no event source: callers invoke it with the AWS SDK and their own rights.
"""

from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names


class Submit(Construct):
    def __init__(
        self, scope: Construct, construct_id: str, *, names: Names, lambdas: Lambdas
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("submit"),
            handler="handlers.submit.handler",
            description="Accepts runs: one conditional put each",
            timeout_seconds=30,
            memory_mb=512,
        )
