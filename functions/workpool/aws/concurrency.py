"""How many of a pool's actions run at once: the only module that changes a consumer's limits.

Reserved concurrency is the hard bound and comes first, always; then the queue's mapping, whose
change AWS applies some seconds later.
"""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.aws.pools import Pool

if TYPE_CHECKING:
    from types_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef

LEAST_MAPPING = 2
"""A mapping's MaximumConcurrency begins here; reserved concurrency bounds a pool of one."""


def enforce(pool: Pool, *, limit: int, paused: bool) -> None:
    """Set both limits. What runs is not interrupted. Raises ClientError."""
    function = environment().consumer(pool.name)
    if pool.reserved:
        clients.client("lambda").put_function_concurrency(
            FunctionName=function, ReservedConcurrentExecutions=0 if paused else limit
        )
    mapping = _mapping(function)
    try:
        clients.client("lambda").update_event_source_mapping(
            UUID=mapping["UUID"],
            Enabled=not paused,
            ScalingConfig={"MaximumConcurrency": max(LEAST_MAPPING, limit)},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUseException":
            raise
        # Another change is still being applied: the sweeper sets it later. The hard bound holds.


def holds(pool: Pool, *, limit: int, paused: bool) -> bool:
    """Whether both limits are what they should be."""
    function = environment().consumer(pool.name)
    if pool.reserved:
        answer = clients.client("lambda").get_function_concurrency(FunctionName=function)
        if answer.get("ReservedConcurrentExecutions") != (0 if paused else limit):
            return False
    mapping = _mapping(function)
    maximum = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
    enabled = mapping["State"] in ("Enabled", "Enabling")
    return enabled is not paused and maximum == max(LEAST_MAPPING, limit)


def _mapping(function: str) -> "EventSourceMappingConfigurationTypeDef":
    answer = clients.client("lambda").list_event_source_mappings(FunctionName=function)
    return answer["EventSourceMappings"][0]
