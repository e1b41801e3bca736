"""How every function of a workpool is made: runtime, code, layer, log group, role, environment.

The only module that declares a function. It grants nothing but a function's own log;
`infra/grants.py` says the rest. Called by the parts, which say what differs: name, handler,
timeout, memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.asset import installed_packages, staged_functions, staged_layer
from infra.config import PoolConfig


class Lambdas(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: Path,
        environment: Mapping[str, str],
        pools: tuple[PoolConfig, ...],
        reserved: bool,
        tracing: bool,
        vpc: ec2.IVpc | None,
        encryption_key: kms.IKey | None,
    ) -> None:
        """`source` is the folder `functions/`; `encryption_key` encrypts the logs."""
        super().__init__(scope, construct_id)
        self._tracing = lambda_.Tracing.ACTIVE if tracing else None
        self._environment = dict(environment)
        self.functions: list[lambda_.Function] = []
        self._encryption_key = encryption_key
        self._code = lambda_.Code.from_asset(
            str(staged_functions(source, pools, reserved=reserved, tracing=tracing))
        )
        self._layer = self._layer_version("Layer", staged_layer(), "Powertools for AWS Lambda")
        packages = installed_packages(source)
        self._packages = (
            [self._layer_version("Packages", packages, "What functions/requirements.txt names")]
            if packages
            else []
        )
        self._vpc = vpc
        #: Of all functions, if they are in a VPC. Nothing connects to a function.
        self.security_group = (
            ec2.SecurityGroup(self, "SecurityGroup", vpc=vpc, description="Workpool functions")
            if vpc
            else None
        )

    def function(
        self,
        scope: Construct,
        construct_id: str = "Function",
        *,
        name: str,
        handler: str,
        description: str,
        timeout_seconds: int,
        memory_mb: int = 256,
        reserved_concurrency: int | None = None,
        environment: Mapping[str, str] | None = None,
        policies: Sequence[str] = (),
        user_code: bool = False,
    ) -> lambda_.Function:
        """`user_code`: it runs actions or completion handlers, so it gets their packages."""
        log_group = logs.LogGroup(
            scope,
            f"{construct_id}Logs",
            log_group_name=f"/aws/lambda/{name}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
            encryption_key=self._encryption_key,
        )
        role = iam.Role(
            scope,
            f"{construct_id}Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            managed_policies=[
                iam.ManagedPolicy.from_managed_policy_arn(scope, f"{construct_id}Policy{n}", arn)
                for n, arn in enumerate(policies)
            ],
        )
        log_group.grant_write(role)
        function = lambda_.Function(
            scope,
            construct_id,
            function_name=name,
            description=description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=self._code,
            handler=handler,
            layers=[self._layer, *(self._packages if user_code else [])],
            role=role,
            log_group=log_group,
            timeout=Duration.seconds(timeout_seconds),
            memory_size=memory_mb,
            reserved_concurrent_executions=reserved_concurrency,
            environment={**self._environment, **(environment or {})},
            tracing=self._tracing,
            vpc=self._vpc,
            security_groups=[self.security_group] if self.security_group else None,
        )
        self.functions.append(function)
        return function

    def _layer_version(
        self, construct_id: str, directory: Path, description: str
    ) -> lambda_.LayerVersion:
        return lambda_.LayerVersion(
            self,
            construct_id,
            code=lambda_.Code.from_asset(str(directory)),
            compatible_runtimes=[lambda_.Runtime.PYTHON_3_13],
            compatible_architectures=[lambda_.Architecture.ARM_64],
            description=description,
        )
