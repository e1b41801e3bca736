"""The HTTP API: every route asks for a signature (IAM), and one function serves them all.

Routes are listed one by one, so that a role's rights can name them. API Gateway itself answers 404
to a request that matches no route; the function does not see it.
"""

import json

from aws_cdk import RemovalPolicy
from aws_cdk import aws_apigatewayv2 as apigateway
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk.aws_apigatewayv2_authorizers import HttpIamAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from infra.lambdas import Lambdas
from infra.names import Names

ROUTES = (
    (apigateway.HttpMethod.POST, "/pools/{pool}/runs"),
    (apigateway.HttpMethod.GET, "/pools/{pool}/runs/{runId}"),
    (apigateway.HttpMethod.POST, "/pools/{pool}/runs/{runId}/cancel"),
    (apigateway.HttpMethod.POST, "/pools/{pool}/status"),
    (apigateway.HttpMethod.GET, "/pools/{pool}/runs"),
    (apigateway.HttpMethod.GET, "/pools/{pool}/stats"),
    (apigateway.HttpMethod.POST, "/pools/{pool}/cancel"),
    (apigateway.HttpMethod.POST, "/pools/{pool}/redrive"),
    (apigateway.HttpMethod.PATCH, "/pools/{pool}"),
    (apigateway.HttpMethod.GET, "/pools"),
)

ACCESS_LOG_FIELDS = (
    "requestId",
    "requestTime",
    "identity.userArn",
    "identity.sourceIp",
    "httpMethod",
    "path",
    "status",
    "error.message",
    "responseLatency",
)


class Api(Construct):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        names: Names,
        lambdas: Lambdas,
        encryption_key: kms.IKey | None,
    ) -> None:
        super().__init__(scope, construct_id)
        self.function = lambdas.function(
            self,
            name=names.part("api"),
            handler="handlers.api.handler",
            description="Serves the HTTP API",
            timeout_seconds=29,  # API Gateway gives up after 30
            memory_mb=512,
        )
        http = apigateway.HttpApi(
            self, "Http", api_name=names.part("api"), create_default_stage=False
        )
        integration = HttpLambdaIntegration(
            "Integration", self.function, scope_permission_to_route=False
        )
        for method, path in ROUTES:
            http.add_routes(
                path=path,
                methods=[method],
                integration=integration,
                authorizer=HttpIamAuthorizer(),
            )
        # Who called what, also when the signature was refused and the function was not called.
        access_log = logs.LogGroup(
            self,
            "AccessLog",
            log_group_name=f"/aws/vendedlogs/{names.part('api')}",
            retention=logs.RetentionDays.ONE_MONTH,
            removal_policy=RemovalPolicy.DESTROY,
            encryption_key=encryption_key,
        )
        apigateway.CfnStage(
            self,
            "Stage",
            api_id=http.api_id,
            stage_name="$default",
            auto_deploy=True,
            access_log_settings=apigateway.CfnStage.AccessLogSettingsProperty(
                destination_arn=access_log.log_group_arn,
                format=json.dumps({field: f"$context.{field}" for field in ACCESS_LOG_FIELDS}),
            ),
        )
        self.url = http.api_endpoint
        #: What a role needs execute-api:Invoke on to submit runs to any pool.
        self.submit_arn = http.arn_for_execute_api("POST", "/pools/*/runs", "$default")
