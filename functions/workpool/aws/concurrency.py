"""Set how many actions of a pool may run at once. The only module that changes a consumer's limits.

Reserved concurrency is the hard bound, so it is always set first. The queue's event source mapping
comes second, since AWS applies a change of it some seconds later.
"""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from workpool.aws import clients
from workpool.aws.environment import environment
from workpool.aws.pools import Pool

if TYPE_CHECKING:
    from types_boto3_lambda.type_defs import EventSourceMappingConfigurationTypeDef

MIN_MAPPING_CONCURRENCY = 2
"""The least MaximumConcurrency of a mapping. Reserved concurrency bounds a pool of one."""


def enforce(pool: Pool, *, limit: int, paused: bool) -> None:
    """Set both limits. An action that runs is not interrupted. Raises ClientError."""
    function = environment().consumer(pool.name)
    if pool.reserved:
        clients.client("lambda").put_function_concurrency(
            FunctionName=function, ReservedConcurrentExecutions=0 if paused else limit
        )
    mapping = _read_mapping(function)
    try:
        clients.client("lambda").update_event_source_mapping(
            UUID=mapping["UUID"],
            Enabled=not paused,
            ScalingConfig={"MaximumConcurrency": max(MIN_MAPPING_CONCURRENCY, limit)},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceInUseException":
            raise
        # AWS is still applying another change: the sweeper sets the mapping later. Until then the
        # hard bound holds.


def unreserve(pool: Pool) -> None:
    """Remove the reserved concurrency of the pool's consumer, if it has any."""
    clients.client("lambda").delete_function_concurrency(
        FunctionName=environment().consumer(pool.name)
    )


def is_enforced(pool: Pool, *, limit: int, paused: bool) -> bool:
    """Whether both limits are what they should be."""
    function = environment().consumer(pool.name)
    if pool.reserved:
        answer = clients.client("lambda").get_function_concurrency(FunctionName=function)
        if answer.get("ReservedConcurrentExecutions") != (0 if paused else limit):
            return False
    mapping = _read_mapping(function)
    maximum = mapping.get("ScalingConfig", {}).get("MaximumConcurrency")
    enabled = mapping["State"] in ("Enabled", "Enabling")
    return enabled is not paused and maximum == max(MIN_MAPPING_CONCURRENCY, limit)


def _read_mapping(function: str) -> "EventSourceMappingConfigurationTypeDef":
    answer = clients.client("lambda").list_event_source_mappings(FunctionName=function)
    return answer["EventSourceMappings"][0]
