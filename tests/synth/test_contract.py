"""Where the two trees meet: handlers, environment, pools file, state machine; and where not."""

import ast
import importlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import FileSystem

from infra.asset import LAYER_DISTRIBUTIONS, staged_functions, staged_layer
from infra.config import WorkpoolConfig
from infra.retrier import DEFINITION

ROOT = Path(__file__).parents[2]
FUNCTION = "AWS::Lambda::Function"

#: Packages of a developer's machine.
TOOLS = {"typer", "rich", "pytest", "moto"}


def handlers(resources: Any) -> set[str]:
    return {function["Handler"] for function in resources.of(FUNCTION).values()}


def test_every_handler_of_the_template_is_a_callable_in_functions(resources: Any) -> None:
    assert len(handlers(resources)) == 11
    for handler in handlers(resources):
        module, _, function = handler.rpartition(".")
        loaded = importlib.import_module(module)
        assert Path(str(loaded.__file__)).is_relative_to(ROOT / "functions")
        assert callable(getattr(loaded, function)), handler


def test_the_environment_that_is_set_is_the_one_that_is_read(resources: Any) -> None:
    environment = importlib.import_module("workpool.aws.environment")
    for function in resources.of(FUNCTION).values():
        assert set(function["Environment"]["Variables"]) == environment.VARIABLES


def test_a_functions_time_is_longer_than_what_user_code_was_promised(make_resources: Any) -> None:
    """What comes before user code may take some seconds, and the message still need not go back."""
    attempt = importlib.import_module("workpool.verbs.attempt")
    complete = importlib.import_module("workpool.verbs.complete")
    for action, handler in ((1, 1), (60, 60), (890, 880)):
        resources = make_resources(
            {
                "completions": {"timeoutSeconds": handler},
                "pools": {"a": {"maxParallelism": 1, "actionTimeoutSeconds": action}},
            }
        )
        _, consumer = resources.named(FUNCTION, "Workpool-a-consumer")
        _, completion = resources.named(FUNCTION, "Workpool-completion")
        variables = completion["Environment"]["Variables"]
        assert variables["WORKPOOL_COMPLETION_TIMEOUT_SECONDS"] == str(handler)
        assert consumer["Timeout"] * 1000 >= action * 1000 + attempt.MARGIN_MS + 5000
        assert completion["Timeout"] * 1000 >= handler * 1000 + complete.MARK_MARGIN_MS + 10_000
        assert max(consumer["Timeout"], completion["Timeout"]) <= 900


def test_a_pools_own_environment_reaches_its_consumer_alone(make_resources: Any) -> None:
    environment = importlib.import_module("workpool.aws.environment")
    pools = {
        "a": {"maxParallelism": 1, "environment": {"GREETING": "hello"}, "logLevel": "DEBUG"},
        "b": {"maxParallelism": 1},
    }
    resources = make_resources({"pools": pools})
    for function in resources.of(FUNCTION).values():
        variables = function["Environment"]["Variables"]
        own = function["FunctionName"] == "Workpool-a-consumer"
        assert set(variables) - environment.VARIABLES == ({"GREETING"} if own else set())
        assert variables["IDEMPOTENT_WORKPOOL_LOG_LEVEL"] == ("DEBUG" if own else "INFO")


@pytest.mark.promise(
    "Your own tests with workpool.testing",
    "The defaults, environment and tables of `workpool_local` are those of a deployment",
)
def test_what_tests_run_on_is_what_is_deployed(tmp_path: Path, resources: Any) -> None:
    """`workpool.testing`: its defaults, its environment and its tables."""
    testing = importlib.import_module("workpool.testing.stack")
    environment = importlib.import_module("workpool.aws.environment")
    config = WorkpoolConfig.from_context(
        {"pools": {"default": {"maxParallelism": 1}}}, log_level="INFO"
    )
    staged = staged_functions(tmp_path, config.pools, reserved=True)
    (deployed,) = json.loads((staged / "pools.json").read_text()).values()
    assert {name: deployed[name] for name in testing.DEFAULTS} == testing.DEFAULTS
    assert set(testing.environment("us-east-1")) >= environment.VARIABLES
    for table in testing.tables(runs="runs", stats="stats"):
        [its] = [
            it
            for it in resources.of("AWS::DynamoDB::Table").values()
            if it["KeySchema"] == table["KeySchema"]
        ]
        for name in ("BillingMode", "GlobalSecondaryIndexes"):
            assert its.get(name) == table.get(name)

        def kinds(of: dict[str, Any]) -> set[tuple[str, str]]:
            return {(it["AttributeName"], it["AttributeType"]) for it in of["AttributeDefinitions"]}

        assert kinds(its) == kinds(table)


def test_names_by_pool_leave_the_pool_to_be_filled_in(resources: Any) -> None:
    _, function = resources.named(FUNCTION, "Workpool-submit")
    variables = function["Environment"]["Variables"]
    for name, end in (
        ("WORKPOOL_WORK_QUEUE", "/Workpool-{pool}-work"),
        ("WORKPOOL_DEAD_LETTER_QUEUE", "/Workpool-{pool}-dead-letters"),
        ("WORKPOOL_PARKED_QUEUE", "/Workpool-{pool}-parked"),
        ("WORKPOOL_SHARED_PARKED_QUEUE", "/Workpool-parked"),
        ("WORKPOOL_RETRIER", ":stateMachine:Workpool-{pool}-retrier"),
        ("WORKPOOL_RELAY_RETRY_QUEUE", "/Workpool-relay-retry"),
    ):
        assert variables[name]["Fn::Join"][1][-1] == end
    assert variables["WORKPOOL_CONSUMER"] == "Workpool-{pool}-consumer"
    queues = {queue["QueueName"] for queue in resources.of("AWS::SQS::Queue").values()}
    machines = resources.of("AWS::StepFunctions::StateMachine").values()
    assert {"Workpool-default-work", "Workpool-default-parked", "Workpool-relay-retry"} <= queues
    assert {machine["StateMachineName"] for machine in machines} == {"Workpool-default-retrier"}


def test_the_asset_holds_the_packages_and_the_pools_and_nothing_compiled(tmp_path: Path) -> None:
    (tmp_path / "actions" / "__pycache__").mkdir(parents=True)
    (tmp_path / "actions" / "__pycache__" / "mine.cpython-311.pyc").touch()
    (tmp_path / "actions" / "mine.py").write_text("x = 1\n")
    (tmp_path / "pools.json").write_text("left from elsewhere")
    config = WorkpoolConfig.from_context(
        {"pools": {"default": {"maxParallelism": 3}}}, log_level="INFO"
    )
    staged = staged_functions(tmp_path, config.pools, reserved=False)
    files = {str(path.relative_to(staged)) for path in staged.rglob("*") if path.is_file()}
    assert files == {"actions/mine.py", "pools.json"}
    (pool,) = json.loads((staged / "pools.json").read_text()).values()
    assert (pool["maxParallelism"], pool["reservedConcurrency"]) == (3, False)


def test_the_layer_holds_powertools_and_what_it_imports_and_no_sdk() -> None:
    packages = {path.name for path in (staged_layer() / "python").iterdir()}
    assert {"aws_lambda_powertools", "jmespath", "typing_extensions.py"} <= packages
    assert not {name for name in packages if name.startswith(("boto", "pydantic"))}
    assert not list(staged_layer().rglob("*.pyc"))
    assert not list(staged_layer().rglob("*.so"))
    assert len([name for name in packages if name.endswith(".dist-info")]) == len(
        LAYER_DISTRIBUTIONS
    )


# The state machine


def test_the_retriers_definition_is_valid(tmp_path: Path, resources: Any) -> None:
    validator = ROOT / "node_modules" / ".bin" / "asl-validator"
    if not validator.exists():
        pytest.fail(
            "asl-validator is missing: `make test` installs it into node_modules, as does `npm ci`"
        )
    (machine,) = resources.of("AWS::StepFunctions::StateMachine").values()
    definition = machine["DefinitionString"].replace("${Partition}", "aws")
    path = tmp_path / "retrier.asl.json"
    path.write_text(definition)
    ran = subprocess.run(
        [str(validator), "--json-path", str(path)], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_retrier_is_a_standard_machine_that_fills_in_its_own_queue(resources: Any) -> None:
    (machine,) = resources.of("AWS::StepFunctions::StateMachine").values()
    key, _ = resources.named("AWS::SQS::Queue", "Workpool-default-work")
    assert json.loads(machine["DefinitionString"]) == DEFINITION
    assert machine.get("StateMachineType", "STANDARD") == "STANDARD"
    assert machine["DefinitionSubstitutions"] == {
        "Partition": {"Ref": "AWS::Partition"},
        "WorkQueueUrl": {"Ref": key},
    }


def retrier_for(error: str) -> Any:
    """The retrier that Step Functions takes for an error: the first that names it, or all that
    may happen to a task. That is every error but States.Timeout."""
    for retrier in DEFINITION["States"]["Attempt"]["Retry"]:
        names = retrier["ErrorEquals"]
        if error in names or ("States.TaskFailed" in names and error != "States.Timeout"):
            return retrier
    return None


def test_the_retrier_catches_the_consumers_retry_at_once_and_ends_when_no_answer_came() -> None:
    backoff, attempt = DEFINITION["States"]["Backoff"], DEFINITION["States"]["Attempt"]
    assert backoff == {"Type": "Wait", "TimestampPath": "$.retry.Cause", "Next": "Attempt"}
    assert retrier_for("Workpool.Retry") == {"ErrorEquals": ["Workpool.Retry"], "MaxAttempts": 0}
    assert retrier_for("States.Timeout") is None
    assert attempt["Catch"] == [
        {"ErrorEquals": ["Workpool.Retry"], "ResultPath": "$.retry", "Next": "Backoff"}
    ]
    assert attempt["TimeoutSeconds"] == 1_209_600


@pytest.mark.parametrize(
    "error",
    [
        "SQS.SdkClientException",
        "SQS.AmazonSQSException",
        "SQS.SqsException",
        "SQS.KmsThrottledException",
        "Sqs.NameOfTomorrow",
        "States.TaskFailed",
    ],
)
def test_the_retrier_repeats_a_message_that_sqs_did_not_take_whatever_aws_calls_that(
    error: str,
) -> None:
    retrier = retrier_for(error)
    assert retrier is not None
    assert retrier["MaxAttempts"] == 1000
    assert (retrier["MaxDelaySeconds"], retrier["JitterStrategy"]) == (300, "FULL")


def test_a_retried_run_stays_within_the_history_of_one_execution() -> None:
    """25,000 events: a thousand retries of about 8, and SQS away for days once, at 4 each."""
    failures = sum(it["MaxAttempts"] for it in DEFINITION["States"]["Attempt"]["Retry"])
    assert 1000 * 8 + failures * 4 < 25_000


# Import directions


def imports(folder: Path) -> dict[str, set[str]]:
    """The top-level packages that each module of a folder imports."""
    found = {}
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text())
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
        found[str(path.relative_to(folder))] = names
    return found


def test_functions_never_import_the_infrastructure() -> None:
    for module, names in imports(ROOT / "functions").items():
        assert not names & {"infra", "aws_cdk", "constructs"}, module


def test_the_infrastructure_never_imports_functions_or_the_sdk() -> None:
    packages = {path.name for path in (ROOT / "functions").iterdir() if path.is_dir()}
    for module, names in imports(ROOT / "infra").items():
        assert not names & (packages | {"functions", "boto3", "botocore"}), module


def test_the_configuration_needs_the_standard_library_alone() -> None:
    infra = imports(ROOT / "infra")
    for module in ("config.py", "fields.py"):
        assert not infra[module] & {"aws_cdk", "constructs"}, module


def test_nothing_asks_for_docker(resources: Any) -> None:
    for path in (ROOT / "infra").rglob("*.py"):
        source = path.read_text()
        assert "BundlingOptions" not in source and "DockerImage" not in source, path
    kinds = {function.get("PackageType", "Zip") for function in resources.of(FUNCTION).values()}
    assert kinds == {"Zip"}


# What is shipped


def asset_hash(source: Path) -> str:
    """The name under which the CDK would upload the code: it decides whether functions change."""
    pools = WorkpoolConfig.from_context({"pools": {"default": {"maxParallelism": 1}}}).pools
    return FileSystem.fingerprint(str(staged_functions(source, pools, reserved=True)))


@pytest.fixture
def functions(project: Path, tmp_path: Path) -> Path:
    """A copy of functions/ to edit."""
    return Path(shutil.copytree(project / "functions", tmp_path / "functions"))


@pytest.mark.parametrize(
    "module", ["cli/commands.py", "cli/new.py", "testing/__init__.py", "console/page.py"]
)
def test_an_edit_of_what_runs_on_a_developers_machine_redeploys_no_function(
    module: str, functions: Path
) -> None:
    before = asset_hash(functions)
    edited = functions / "workpool" / module
    edited.parent.mkdir(exist_ok=True)
    with edited.open("a") as file:
        file.write("# edited\n")
    assert asset_hash(functions) == before


@pytest.mark.parametrize(
    "module", ["workpool/verbs/submit.py", "handlers/api.py", "actions/cli/new.py"]
)
def test_an_edit_of_what_runs_in_lambda_redeploys_the_functions(
    module: str, functions: Path
) -> None:
    before = asset_hash(functions)
    edited = functions / module
    edited.parent.mkdir(exist_ok=True)
    with edited.open("a") as file:
        file.write("# edited\n")
    assert asset_hash(functions) != before


def test_folders_of_a_user_named_like_those_left_out_are_shipped(functions: Path) -> None:
    for name in ("cli", "testing", "console"):
        module = functions / "actions" / name / "mine.py"
        module.parent.mkdir()
        module.touch()
    staged = staged_functions(functions, (), reserved=True)
    shipped = {path.parent.name for path in staged.glob("actions/*/mine.py")}
    assert shipped == {"cli", "testing", "console"}


def test_no_function_brings_along_tests_or_the_command_line(project: Path) -> None:
    staged, layer = staged_functions(project / "functions", (), reserved=True), staged_layer()
    paths = [path.relative_to(at) for at in (staged, layer) for path in at.rglob("*.py")]
    assert Path("workpool/verbs/submit.py") in paths
    assert not {"cli", "testing", "console", "__main__.py", *TOOLS} & {
        part for path in paths for part in path.parts
    }
    for module, names in imports(staged).items():
        assert not names & TOOLS, module
