"""The configuration: every field that a deployer may set in `cdk.json`, its default, its bounds.

Standard library only, no CDK. It checks a mapping and returns frozen dataclasses, or raises one
ConfigMistakes that names all mistakes at once. Called by `app.py`; the constructs only read the
dataclasses.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.fields import Fields

LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
MAX_POOLS = 16

#: The concurrency that Lambda keeps unreserved in every account and region.
UNRESERVED_CONCURRENCY = 100

#: What the other functions need at once: submit, api, relay, and one for all that run seldom.
OTHER_CONCURRENCY = 4

#: A function's environment holds 4 KB, names and values together. The rest is for our own.
ENVIRONMENT_BYTES = 3000


class ConfigMistakes(Exception):
    """Everything that is wrong with the configuration, one mistake per line."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__(
            "\n".join(["The configuration (cdk.json's context) cannot be deployed:", *mistakes])
        )
        self.mistakes = tuple(mistakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsConfig:
    """When the alarms of a pool go off."""

    oldest_due_ms: int
    permanent_failure_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionsConfig:
    """The function that runs the completion handlers of all pools."""

    timeout_seconds: int
    memory_mb: int
    max_concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """One pool, with all defaults filled in."""

    name: str
    max_parallelism: int
    initial_backoff_ms: float
    base: float
    max_retries: int
    stats_window_ms: int
    log_level: str
    action_timeout_seconds: int
    memory_mb: int
    retention_seconds: int
    lambda_actions: tuple[str, ...]
    environment: dict[str, str]
    policies: tuple[str, ...]
    tables: tuple[str, ...]
    alarms: AlarmsConfig

    def for_functions(self, *, reserved: bool, tracing: bool = False) -> dict[str, Any]:
        """The pool's entry in the asset's pools.json: what the functions know about it."""
        return {
            "reservedConcurrency": reserved,
            "maxParallelism": self.max_parallelism,
            "initialBackoffMs": self.initial_backoff_ms,
            "base": self.base,
            "maxRetries": self.max_retries,
            "statsWindowMs": self.stats_window_ms,
            "actionTimeoutSeconds": self.action_timeout_seconds,
            "retentionSeconds": self.retention_seconds,
            "lambdaActions": list(self.lambda_actions),
            **({"tracing": True} if tracing else {}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkpoolConfig:
    """The whole deployment."""

    stack_name: str
    log_level: str
    reserved_concurrency: bool
    account_concurrency: int
    alarm_topic_arn: str | None
    tracing: bool
    completions: CompletionsConfig
    pools: tuple[PoolConfig, ...]

    @classmethod
    def from_context(
        cls, context: Mapping[str, Any], *, log_level: str = "INFO"
    ) -> "WorkpoolConfig":
        """Read the configuration from a CDK context. Raises ConfigMistakes.

        A value from `cdk -c` is a string and is parsed as JSON. Keys with a colon or a slash belong
        to the CDK (feature flags, caches) and are ignored.
        """
        mistakes: list[str] = []
        own = {key: value for key, value in context.items() if not re.search("[:/]", key)}
        fields = Fields("", own, mistakes, typed=False)
        config = cls(
            # At most 22 characters: then the longest name that begins with it has Lambda's 64.
            stack_name=fields.text("stackName", r"[A-Za-z][A-Za-z0-9-]{0,21}", "Workpool"),
            log_level=log_level,
            reserved_concurrency=fields.flag("reservedConcurrency", True),
            account_concurrency=fields.integer("accountConcurrency", 1, 1_000_000, 1000),
            alarm_topic_arn=fields.text_or_null("alarmTopicArn", r"arn:[a-z-]+:sns:\S+"),
            tracing=fields.flag("tracing", False),
            completions=_completions(fields.part("completions")),
            pools=_pools(fields, log_level),
        )
        fields.refuse_the_rest()
        # Compare fields with each other only if each is right: else mistakes are named twice.
        if not mistakes:
            mistakes += _concurrency_mistakes(config)
        if mistakes:
            raise ConfigMistakes(mistakes)
        return config


def default_log_level(given: str | None) -> tuple[str, str | None]:
    """The log level that the environment asks for, and a warning if there is no such level."""
    if not given:
        return "INFO", None
    if given in LOG_LEVELS:
        return given, None
    allowed = ", ".join(LOG_LEVELS)
    return "INFO", (
        f"IDEMPOTENT_WORKPOOL_LOG_LEVEL must be one of {allowed}, got {given!r}: using INFO"
    )


def pascal_case(pool: str) -> str:
    """A pool's name in the names of the stack's outputs: `order-mails` becomes `OrderMails`."""
    return "".join(word.capitalize() for word in pool.split("-"))


def _completions(fields: Fields) -> CompletionsConfig:
    completions = CompletionsConfig(
        timeout_seconds=fields.integer("timeoutSeconds", 1, 880, 60),
        memory_mb=fields.integer("memoryMb", 128, 10240, 256),
        # Lambda accepts 2 to 1000 as the limit of a queue's mapping.
        max_concurrency=fields.integer("maxConcurrency", 2, 1000, 10),
    )
    fields.refuse_the_rest()
    return completions


def _pools(fields: Fields, log_level: str) -> tuple[PoolConfig, ...]:
    pools = fields.part("pools")
    if not 1 <= len(pools.given) <= MAX_POOLS:
        fields.mistake("pools", f"must hold 1 to {MAX_POOLS} pools, got {len(pools.given)}")
    names: dict[str, str] = {}
    configs = []
    for name in pools.given:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
            pools.mistake(name, "is not a valid pool name: it must match [a-z][a-z0-9-]{0,31}")
        twin = names.setdefault(pascal_case(name), name)
        if twin != name:
            pools.mistake(
                name,
                f"has the same name in the stack's outputs as {twin} ({pascal_case(name)}): "
                "rename one",
            )
        configs.append(_pool(name, pools.part(name), log_level))
    return tuple(configs)


def _pool(name: str, fields: Fields, log_level: str) -> PoolConfig:
    alarms = fields.part("alarms")
    pool = PoolConfig(
        name=name,
        max_parallelism=fields.integer("maxParallelism", 1, 1000, None),
        initial_backoff_ms=fields.number("initialBackoffMs", 25, math.inf, 250),
        base=fields.number("base", 1, math.inf, 2),
        max_retries=fields.integer("maxRetries", 0, 1000, 4),
        stats_window_ms=fields.integer("statsWindowMs", 1000, 3_600_000, 300_000),
        log_level=fields.choice("logLevel", LOG_LEVELS, log_level),
        action_timeout_seconds=fields.integer("actionTimeoutSeconds", 1, 890, 60),
        memory_mb=fields.integer("memoryMb", 128, 10240, 256),
        retention_seconds=fields.integer("retentionSeconds", 60, 31_536_000, 86_400),
        lambda_actions=fields.texts("lambdaActions", r"[A-Za-z0-9_-]{1,64}"),
        environment=_environment(fields.part("environment")),
        policies=fields.texts("policies", r"arn:[a-z-]+:iam::([0-9]{12}|aws):policy/\S+"),
        tables=fields.texts("tables", r"[A-Za-z0-9_.-]{3,255}"),
        alarms=AlarmsConfig(
            oldest_due_ms=alarms.integer("oldestDueMs", 1000, 1_209_600_000, 900_000),
            permanent_failure_rate=alarms.number("permanentFailureRate", 0, 1, 0.05),
        ),
    )
    alarms.refuse_the_rest()
    fields.refuse_the_rest()
    return pool


def _environment(fields: Fields) -> dict[str, str]:
    reserved = r"(WORKPOOL_|IDEMPOTENT_WORKPOOL_|AWS_|LAMBDA_).*"
    environment = {}
    for name in fields.given:
        if re.fullmatch(reserved, name):
            fields.mistake(name, "is reserved: the workpool or Lambda sets it, choose another name")
        elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]+", name):
            fields.mistake(
                name, "is not a valid variable name: it must match [A-Za-z][A-Za-z0-9_]+"
            )
        environment[name] = fields.text(name, None, "")
    size = sum(len(f"{name}{value}".encode()) for name, value in environment.items())
    if size > ENVIRONMENT_BYTES:
        fields.mistake("", f"must be <= {ENVIRONMENT_BYTES} bytes in total, got {size}")
    return environment


def _concurrency_mistakes(config: WorkpoolConfig) -> list[str]:
    if not config.reserved_concurrency:
        return [
            *(
                f"pools.{pool.name}.maxParallelism must be >= 2 while reservedConcurrency is "
                "false, got 1: then the limit of the queue's mapping is the only bound, and its "
                "minimum is 2"
                for pool in config.pools
                if pool.max_parallelism == 1
            ),
            *_sum_mistakes(config),
        ]
    reserved = sum(pool.max_parallelism for pool in config.pools)
    available = config.account_concurrency - UNRESERVED_CONCURRENCY
    if reserved <= available:
        return _sum_mistakes(config)
    return [
        f"pools: the sum of maxParallelism must be <= {available} (accountConcurrency "
        f"{config.account_concurrency} minus the {UNRESERVED_CONCURRENCY} that Lambda keeps "
        f"unreserved), got {reserved}: lower it; or raise the account's quota for concurrent "
        "executions and then accountConcurrency; or set reservedConcurrency to false"
    ]


def _sum_mistakes(config: WorkpoolConfig) -> list[str]:
    """Pools and completions must leave room for the functions that start, count and show runs."""
    pools = sum(pool.max_parallelism for pool in config.pools)
    completions = config.completions.max_concurrency
    needed = pools + completions + OTHER_CONCURRENCY
    if needed <= config.account_concurrency:
        return []
    return [
        f"pools: the sum of maxParallelism ({pools}), completions.maxConcurrency ({completions}) "
        f"and {OTHER_CONCURRENCY} for the workpool's other functions must be <= "
        f"accountConcurrency {config.account_concurrency}, got {needed}: lower them; or raise the "
        "account's quota for concurrent executions and then accountConcurrency"
    ]
