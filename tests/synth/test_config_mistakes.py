"""`cdk.json` is checked before anything is deployed, and all mistakes are named at once."""

import json
from typing import Any

import pytest

from infra.config import ConfigMistakes, WorkpoolConfig, default_log_level, pascal_case


def config(**context: Any) -> WorkpoolConfig:
    context.setdefault("pools", {"default": {"maxParallelism": 10}})
    return WorkpoolConfig.from_context(context, log_level="INFO")


def mistakes(**context: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigMistakes) as caught:
        config(**context)
    return caught.value.mistakes


def pool_mistakes(**fields: Any) -> tuple[str, ...]:
    return mistakes(pools={"default": {"maxParallelism": 10, **fields}})


@pytest.mark.promise("Options", "`initialBackoffMs` is a number of at least 25; the default is 250")
@pytest.mark.promise(
    "Options", "`base` is a number of at least 1, possibly a fraction; the default is 2"
)
@pytest.mark.promise("Options", "`maxRetries` is an integer from 0 to 1000; the default is 4")
@pytest.mark.promise(
    "Options",
    "The defaults are 300000 for `statsWindowMs`, 60 for "
    "`actionTimeoutSeconds` and 86400 for `retentionSeconds`",
)
def test_only_max_parallelism_is_required_and_the_rest_has_the_documented_defaults() -> None:
    (pool,) = config().pools
    assert pool.for_functions(reserved=True) == {
        "reservedConcurrency": True,
        "maxParallelism": 10,
        "initialBackoffMs": 250,
        "base": 2,
        "maxRetries": 4,
        "statsWindowMs": 300_000,
        "actionTimeoutSeconds": 60,
        "retentionSeconds": 86_400,
        "lambdaActions": [],
    }
    assert (pool.log_level, pool.memory_mb) == ("INFO", 256)
    whole = config()
    assert whole.stack_name == "Workpool"
    assert whole.reserved_concurrency is True
    assert (whole.account_concurrency, whole.alarm_topic_arn, whole.tracing) == (1000, None, False)
    assert (whole.completions.timeout_seconds, whole.completions.max_concurrency) == (60, 10)


@pytest.mark.promise(
    "Options",
    "`statsWindowMs`, `actionTimeoutSeconds` and `retentionSeconds` are "
    "accepted on their bounds and refused beyond them",
)
@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("maxParallelism", 1, 900),
        ("initialBackoffMs", 25, 10**9),
        ("base", 1, 2.71),
        ("maxRetries", 0, 1000),
        ("statsWindowMs", 1000, 3_600_000),
        ("actionTimeoutSeconds", 1, 890),
        ("memoryMb", 128, 10_240),
        ("retentionSeconds", 60, 31_536_000),
    ],
)
def test_a_value_on_a_bound_is_accepted(field: str, low: float, high: float) -> None:
    for value in (low, high):
        config(pools={"default": {"maxParallelism": 10, field: value}})


@pytest.mark.promise("Options", "`maxParallelism` is an integer from 1 to 1000")
@pytest.mark.promise(
    "Options",
    "`statsWindowMs`, `actionTimeoutSeconds` and `retentionSeconds` are "
    "accepted on their bounds and refused beyond them",
)
@pytest.mark.parametrize(
    ("field", "value", "bound"),
    [
        ("maxParallelism", 0, "must be >= 1, got 0"),
        ("maxParallelism", 1001, "must be <= 1000, got 1001"),
        ("maxParallelism", 1.5, "must be an integer from 1 to 1000, got 1.5"),
        ("maxParallelism", True, "must be an integer from 1 to 1000, got true"),
        ("maxParallelism", "10", 'must be an integer from 1 to 1000, got "10"'),
        ("maxParallelism", None, "must be an integer from 1 to 1000, got null"),
        ("initialBackoffMs", 10, "must be >= 25, got 10"),
        ("initialBackoffMs", True, "must be a number >= 25, got true"),
        ("base", 0.9, "must be >= 1, got 0.9"),
        ("base", float("nan"), "must be a number >= 1, got NaN"),
        ("base", float("inf"), "must be a number >= 1, got Infinity"),
        ("maxRetries", -1, "must be >= 0, got -1"),
        ("maxRetries", 1001, "must be <= 1000, got 1001"),
        ("statsWindowMs", 999, "must be >= 1000, got 999"),
        ("statsWindowMs", 3_600_001, "must be <= 3600000, got 3600001"),
        ("logLevel", "info", 'must be one of DEBUG, INFO, WARN, ERROR, got "info"'),
        ("logLevel", ["INFO"], 'must be one of DEBUG, INFO, WARN, ERROR, got ["INFO"]'),
        ("actionTimeoutSeconds", 0, "must be >= 1, got 0"),
        ("actionTimeoutSeconds", 891, "must be <= 890, got 891"),
        ("memoryMb", 127, "must be >= 128, got 127"),
        ("memoryMb", 10_241, "must be <= 10240, got 10241"),
        ("retentionSeconds", 59, "must be >= 60, got 59"),
        ("retentionSeconds", 31_536_001, "must be <= 31536000, got 31536001"),
        ("lambdaActions", "one", 'must be a list of strings, got "one"'),
        ("policies", {}, "must be a list of strings, got {}"),
        ("alarms", [], "must be an object, got []"),
        ("environment", None, "must be an object, got null"),
    ],
)
def test_a_value_beyond_a_bound_is_refused_with_path_bound_and_value(
    field: str, value: Any, bound: str
) -> None:
    assert pool_mistakes(**{field: value}) == (f"pools.default.{field} {bound}",)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    (mistake,) = pool_mistakes(initialBackoffMs=10**400)
    assert mistake.startswith("pools.default.initialBackoffMs must be a number >= 25, got 1000")


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"lambdaActions": ["a b"]}, "pools.default.lambdaActions[0] must be a string that"),
        ({"lambdaActions": ["a", "a"]}, "pools.default.lambdaActions[1] is there twice"),
        ({"policies": ["ReadOnly"]}, "pools.default.policies[0] must be a string that"),
        ({"tables": ["x/y"]}, "pools.default.tables[0] must be a string that"),
        ({"tables": [1]}, "pools.default.tables[0] must be a string that"),
        ({"environment": {"AWS_REGION": "x"}}, "pools.default.environment.AWS_REGION is reserved"),
        ({"environment": {"WORKPOOL_X": "x"}}, "pools.default.environment.WORKPOOL_X is reserved"),
        (
            {"environment": {"IDEMPOTENT_WORKPOOL_LOG_LEVEL": "x"}},
            "pools.default.environment.IDEMPOTENT_WORKPOOL_LOG_LEVEL is reserved",
        ),
        ({"environment": {"1X": "x"}}, "pools.default.environment.1X is not a valid variable name"),
        ({"environment": {"LIMIT": 1}}, "pools.default.environment.LIMIT must be a string, got 1"),
        ({"environment": {"LONG": "x" * 3000}}, "pools.default.environment must be <= 3000 bytes"),
        ({"alarms": {"oldestDueMs": 0}}, "pools.default.alarms.oldestDueMs must be >= 1000, got 0"),
        (
            {"alarms": {"permanentFailureRate": 2}},
            "pools.default.alarms.permanentFailureRate must be <= 1, got 2",
        ),
        ({"alarms": {"oldest": 1}}, "pools.default.alarms.oldest is unknown"),
        ({"maxParalelism": 1}, "pools.default.maxParalelism is unknown; known are "),
    ],
)
def test_names_lists_and_parts_of_a_pool_are_checked(fields: dict[str, Any], start: str) -> None:
    (mistake,) = pool_mistakes(**fields)
    assert mistake.startswith(start)


@pytest.mark.parametrize(
    ("context", "mistake"),
    [
        ({"stackName": "1st"}, "stackName must be a string that matches "),
        ({"stackName": "x" * 23}, "stackName must be a string that matches "),
        ({"stackName": None}, "stackName must be a string that matches "),
        ({"reservedConcurrency": "yes"}, 'reservedConcurrency must be true or false, got "yes"'),
        ({"reservedConcurrency": 1}, "reservedConcurrency must be true or false, got 1"),
        ({"accountConcurrency": 0}, "accountConcurrency must be >= 1, got 0"),
        ({"alarmTopicArn": "topic"}, "alarmTopicArn must be a string that matches "),
        ({"tracing": None}, "tracing must be true or false, got null"),
        ({"completions": {"timeoutSeconds": 881}}, "completions.timeoutSeconds must be <= 880"),
        ({"completions": {"memoryMb": 1}}, "completions.memoryMb must be >= 128, got 1"),
        ({"completions": {"maxConcurrency": 1}}, "completions.maxConcurrency must be >= 2, got 1"),
        ({"completions": {"retries": 1}}, "completions.retries is unknown"),
        ({"pool": {}}, "pool is unknown; known are "),
        ({"pools": {}}, "pools must hold 1 to 16 pools, got 0"),
        ({"pools": []}, "pools must be an object, got []"),
        ({"pools": "{"}, 'pools must be an object, got "{"'),
        ({"pools": {"a": []}}, "pools.a must be an object, got []"),
        ({"pools": {"a": {}}}, "pools.a.maxParallelism is required: an integer from 1 to 1000"),
        ({"pools": {"A": {"maxParallelism": 1}}}, "pools.A is not a valid pool name"),
        (
            {"pools": {"a" * 33: {"maxParallelism": 1}}},
            f"pools.{'a' * 33} is not a valid pool name",
        ),
    ],
)
def test_the_deployment_as_a_whole_is_checked(context: dict[str, Any], mistake: str) -> None:
    assert mistakes(**context)[0].startswith(mistake)


def test_seventeen_pools_are_one_too_many() -> None:
    pools = {f"p{number}": {"maxParallelism": 1} for number in range(17)}
    assert mistakes(pools=pools) == ("pools must hold 1 to 16 pools, got 17",)


def test_pools_whose_outputs_would_have_the_same_name_are_refused() -> None:
    (mistake,) = mistakes(pools={"a-1": {"maxParallelism": 1}, "a1": {"maxParallelism": 1}})
    assert mistake == "pools.a1 has the same name in the stack's outputs as a-1 (A1): rename one"
    assert pascal_case("order-mails") == "OrderMails"


def test_all_mistakes_are_named_in_one_message() -> None:
    with pytest.raises(ConfigMistakes) as caught:
        config(
            stackName="no name",
            pools={"one": {"maxParallelism": 0, "base": 0}, "two": {"maxRetry": 1}},
            completions={"memoryMb": 1},
        )
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [
        "stackName",
        "completions.memoryMb",
        "pools.one.maxParallelism",
        "pools.one.base",
        "pools.two.maxParallelism",
        "pools.two.maxRetry",
    ]


def test_reserving_more_than_the_account_has_is_refused_with_the_way_out() -> None:
    pools = {"a": {"maxParallelism": 500}, "b": {"maxParallelism": 401}}
    (mistake,) = mistakes(pools=pools)
    assert mistake.startswith("pools: the sum of maxParallelism must be <= 900 ")
    assert "got 901" in mistake
    assert "set reservedConcurrency to false" in mistake
    config(pools=pools, accountConcurrency=1001)
    config(pools=pools, reservedConcurrency=False)


def test_a_pool_of_one_cannot_be_bounded_without_reserved_concurrency() -> None:
    pools = {"single": {"maxParallelism": 1}, "other": {"maxParallelism": 2}}
    (mistake,) = mistakes(pools=pools, reservedConcurrency=False)
    assert mistake.startswith("pools.single.maxParallelism must be >= 2 while reservedConcurrency")


def test_values_given_on_the_command_line_are_parsed() -> None:
    given = config(
        stackName="Orders",
        reservedConcurrency="false",
        accountConcurrency="50",
        pools=json.dumps({"default": {"maxParallelism": 3}}),
    )
    assert given.reserved_concurrency is False
    assert given.account_concurrency == 50
    assert given.pools[0].max_parallelism == 3


def test_the_keys_of_the_cdk_itself_are_left_alone() -> None:
    config(**{"@aws-cdk/aws-iam:minimizePolicies": True, "aws:cdk:bundling-stacks": ["**"]})


@pytest.mark.promise("Options", "The `logLevel` of a pool overrides that of the deployment")
def test_a_pools_log_level_overrides_the_one_of_the_deployment() -> None:
    pools = {"a": {"maxParallelism": 1}, "b": {"maxParallelism": 1, "logLevel": "ERROR"}}
    deployed = WorkpoolConfig.from_context({"pools": pools}, log_level="DEBUG")
    assert [pool.log_level for pool in deployed.pools] == ["DEBUG", "ERROR"]


@pytest.mark.promise(
    "Options", "If the log level in the environment is bad, a warning says so and INFO is used"
)
def test_a_bad_log_level_in_the_environment_warns_and_is_info() -> None:
    assert default_log_level(None) == ("INFO", None)
    assert default_log_level("DEBUG") == ("DEBUG", None)
    level, warning = default_log_level("LOUD")
    assert level == "INFO"
    assert warning is not None and "DEBUG, INFO, WARN, ERROR" in warning and "LOUD" in warning


@pytest.mark.promise(
    "Options",
    "Pools and completions together leave room in the account for the workpool's other functions",
)
@pytest.mark.parametrize("reserved", [True, False])
def test_pools_and_completions_must_leave_room_for_the_other_functions(reserved: bool) -> None:
    pools = {"a": {"maxParallelism": 4}, "b": {"maxParallelism": 6}}
    given = {"reservedConcurrency": reserved, "pools": pools}
    account, completions = (910, 896) if reserved else (20, 6)
    fits = given | {
        "accountConcurrency": account,
        "completions": {"maxConcurrency": completions},
    }
    WorkpoolConfig.from_context(fits)
    with pytest.raises(ConfigMistakes) as caught:
        WorkpoolConfig.from_context(fits | {"completions": {"maxConcurrency": completions + 1}})
    assert caught.value.mistakes == (
        f"pools: the sum of maxParallelism (10), completions.maxConcurrency ({completions + 1}) "
        f"and 4 for the workpool's other functions must be <= accountConcurrency {account}, "
        f"got {account + 1}: lower them; or raise the account's quota for concurrent executions "
        "and then accountConcurrency",
    )


def test_a_pool_of_ten_does_not_fit_into_a_new_account_of_ten() -> None:
    new = {"accountConcurrency": 10, "reservedConcurrency": False}
    with pytest.raises(ConfigMistakes, match="got 24"):
        WorkpoolConfig.from_context(new | {"pools": {"a": {"maxParallelism": 10}}})
    WorkpoolConfig.from_context(
        new | {"pools": {"a": {"maxParallelism": 4}}, "completions": {"maxConcurrency": 2}}
    )
