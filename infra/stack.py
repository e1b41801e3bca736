"""The standalone stack: one workpool and its outputs. Built by `app.py`."""

from pathlib import Path

from aws_cdk import CfnOutput, Stack
from constructs import Construct

from infra.asset import FUNCTIONS
from infra.config import WorkpoolConfig, pascal_case
from infra.workpool import Workpool


class WorkpoolStack(Stack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: WorkpoolConfig,
        functions: Path = FUNCTIONS,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            stack_name=config.stack_name,
            description="Idempotent Workpool: runs actions until they complete",
        )
        # The CDK leaves the id "Default" out of logical ids. With any other id, every resource of
        # a deployed stack would be replaced, and its tables with all runs be left behind.
        workpool = Workpool(self, "Default", config=config, functions=functions)

        CfnOutput(self, "ApiUrl", value=workpool.api_url)
        CfnOutput(self, "SubmitFunctionName", value=workpool.submit_function.function_name)
        CfnOutput(self, "RunsTableName", value=workpool.runs_table.table_name)
        CfnOutput(self, "StatsTableName", value=workpool.stats_table.table_name)
        CfnOutput(self, "PayloadsBucketName", value=workpool.payloads_bucket.bucket_name)
        CfnOutput(self, "EventBusName", value=workpool.event_bus.event_bus_name)
        CfnOutput(self, "DashboardUrl", value=workpool.dashboard_url)
        for name, pool in workpool.pools.items():
            prefix = pascal_case(name)
            machine = pool.retrier.state_machine
            CfnOutput(self, f"{prefix}QueueUrl", value=pool.work.queue_url)
            CfnOutput(self, f"{prefix}ConsumerFunctionName", value=pool.consumer.function_name)
            CfnOutput(self, f"{prefix}RetrierArn", value=machine.state_machine_arn)
