"""The deployment function, and the custom resource by which CloudFormation invokes it.

The template creates every consumer closed (`infra/pool.py`) and never says a pool's limit. The
function sets it: so a deploy neither undoes a pause nor exceeds a limit.
"""

import json

from aws_cdk import CustomResource, Duration, Stack
from aws_cdk import aws_lambda as lambda_
from constructs import Construct, IDependable

from infra.config import PoolConfig
from infra.lambdas import Lambdas
from infra.names import Names

TIMEOUT_SECONDS = 180


class Deployment(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        pools: tuple[PoolConfig, ...],
        reserved: bool,
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("deployment"),
            handler="handlers.deployment.handler",
            description="Sets the limits of the pools at each deploy",
            timeout_seconds=TIMEOUT_SECONDS,
        )
        deployed = {
            pool.name: {"maxParallelism": pool.max_parallelism, "reservedConcurrency": reserved}
            for pool in pools
        }
        self._settings = CustomResource(
            self,
            "Settings",
            resource_type="Custom::WorkpoolSettings",
            service_token=self.function.function_arn,
            # How long CloudFormation waits for an answer; by default an hour.
            service_timeout=Duration.seconds(2 * TIMEOUT_SECONDS),
            # As text: CloudFormation would turn numbers and booleans into strings.
            properties={
                "Pools": json.dumps(deployed, sort_keys=True),
                # So that each new version of the code applies the limits again.
                "Code": _s3_key(self.function),
            },
        )

    def come_after(self, *parts: IDependable) -> None:
        """Invoke the function after these parts are deployed, and before they are deleted."""
        self._settings.node.add_dependency(*parts)


def _s3_key(function: lambda_.Function) -> str:
    """The name of the function's code, which is made of a hash of it."""
    resource = function.node.default_child
    assert isinstance(resource, lambda_.CfnFunction)
    code = Stack.of(function).resolve(resource.code)
    return str(code["s3Key"])
