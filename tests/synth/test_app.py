"""`app.py` as the CDK runs it: what it answers to mistakes, and which feature flags it sets."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.feature_flags import FEATURE_FLAGS

CONTEXT = {"pools": {"default": {"maxParallelism": 1}}}

#: Recommended flags that the app sets to another value; infra/feature_flags.py says why.
DECLINED = {"@aws-cdk/core:enableAdditionalMetadataCollection"}


def app(
    project: Path, tmp_path: Path, context: dict[str, Any], **environment: str
) -> tuple[int, str]:
    """Runs app.py as the CDK does: context in the environment, the template into a folder."""
    ran = subprocess.run(
        [sys.executable, "app.py"],
        cwd=project,
        env={
            **os.environ,
            **environment,
            "CDK_CONTEXT_JSON": json.dumps(context),
            "CDK_OUTDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return ran.returncode, ran.stderr


def test_the_app_ends_with_the_mistakes_and_no_traceback(project: Path, tmp_path: Path) -> None:
    code, stderr = app(project, tmp_path, {"pools": {"default": {"maxParallelism": 0}}})
    assert code == 1
    assert "pools.default.maxParallelism must be >= 1, got 0" in stderr
    assert "Traceback" not in stderr


def test_the_app_warns_of_a_bad_log_level_and_deploys_info(project: Path, tmp_path: Path) -> None:
    code, stderr = app(project, tmp_path, CONTEXT, IDEMPOTENT_WORKPOOL_LOG_LEVEL="LOUD")
    assert code == 0, stderr
    assert "IDEMPOTENT_WORKPOOL_LOG_LEVEL must be one of" in stderr
    template = json.loads((tmp_path / "Workpool.template.json").read_text())
    levels = {
        resource["Properties"]["Environment"]["Variables"]["IDEMPOTENT_WORKPOOL_LOG_LEVEL"]
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
    }
    assert levels == {"INFO"}


# Feature flags


def flags(project: Path, tmp_path: Path, context: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The CDK's report about its feature flags, on which `cdk synth` bases its notice."""
    code, stderr = app(project, tmp_path, context)
    assert code == 0, stderr
    artifacts = json.loads((tmp_path / "manifest.json").read_text())["artifacts"]
    found: dict[str, dict[str, Any]] = artifacts["aws-cdk-lib/feature-flag-report"]["properties"][
        "flags"
    ]
    return found


@pytest.fixture(scope="module")
def reported(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return flags(project, tmp_path_factory.mktemp("app"), CONTEXT)


def test_no_feature_flag_of_the_installed_cdk_needs_to_be_configured(
    reported: dict[str, dict[str, Any]],
) -> None:
    """`cdk synth` counts flags without a value whose default is not the recommended value."""
    unconfigured = {
        name
        for name, flag in reported.items()
        if "userValue" not in flag
        and flag.get("unconfiguredBehavesLike", {}).get("v2", False) != flag["recommendedValue"]
    }
    assert len(reported) > 80
    assert not unconfigured


def test_every_feature_flag_has_its_recommended_value_but_for_those_declined(
    reported: dict[str, dict[str, Any]],
) -> None:
    assert {name: reported[name]["userValue"] for name in FEATURE_FLAGS} == FEATURE_FLAGS
    differing = {
        name for name, value in FEATURE_FLAGS.items() if value != reported[name]["recommendedValue"]
    }
    assert differing == DECLINED


def test_a_feature_flag_in_cdk_json_wins(project: Path, tmp_path: Path) -> None:
    minimize = "@aws-cdk/aws-iam:minimizePolicies"
    assert FEATURE_FLAGS[minimize] is True
    assert flags(project, tmp_path, CONTEXT | {minimize: False})[minimize]["userValue"] is False
