"""Idempotent Workpool: run idempotent actions until they complete. These are the names that users
import.
"""

from workpool.client import IdempotentWorkpool, RunStatus
from workpool.context import ActionContext, CompletionContext
from workpool.errors import (
    IdempotencyConflict,
    Internal,
    InvalidRequest,
    NonRetryableError,
    PayloadTooLarge,
    Throttled,
    UnknownAction,
    UnknownCompletion,
    UnknownPool,
    WorkpoolError,
)
from workpool.lookup import action, completion

__all__ = [
    "ActionContext",
    "CompletionContext",
    "IdempotencyConflict",
    "IdempotentWorkpool",
    "Internal",
    "InvalidRequest",
    "NonRetryableError",
    "PayloadTooLarge",
    "RunStatus",
    "Throttled",
    "UnknownAction",
    "UnknownCompletion",
    "UnknownPool",
    "WorkpoolError",
    "action",
    "completion",
]
