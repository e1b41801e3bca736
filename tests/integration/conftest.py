"""The functions on moto: each test has a world of its own (`tests.support.world`)."""

from tests.support.cloudformation import cloudformation
from tests.support.world import aws, lambda_context, logged, message, no_jitter, world

__all__ = ["aws", "cloudformation", "lambda_context", "logged", "message", "no_jitter", "world"]
