"""Things as small as possible: a project of one queue, a package, an emulator.

The project's app writes the assembly itself, without the CDK's library: a real `cdk deploy` of it
takes a second.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local import Emulator

APP = """
import hashlib, json, os, pathlib, sys
settings = json.loads(os.environ["CDK_CONTEXT_JSON"])
if settings.get("mistake"):
    raise ValueError("2 mistakes in cdk.json:\\n  maxParallelism must be >= 1, got 0\\n  no pool")
if settings.get("exits"):
    sys.exit("cdk.json: maxParallelism must be >= 1, got 0")
out = pathlib.Path(os.environ["CDK_OUTDIR"])
queue = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": settings["visibility"]}}
outputs = {"ApiUrl": "http://abc123.execute-api.localhost:1", "RunsTableName": "runs",
           "SubmitFunctionName": "submit", "QueueUrl": {"Ref": "Queue"}}
template = {"Resources": {"Queue": queue},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()}}
text = json.dumps(template)
key = hashlib.sha256(text.encode()).hexdigest() + ".json"
bucket = "cdk-hnb659fds-assets-000000000000-us-east-1"
assets = {"template": {"source": {"path": "Tiny.template.json", "packaging": "file"},
                       "destinations": {"here": {"bucketName": bucket, "objectKey": key}}}}
manifest = {"Tiny.assets": {"type": "cdk:asset-manifest",
                            "properties": {"file": "Tiny.assets.json"}},
            "Tiny": {"type": "aws:cloudformation:stack", "dependencies": ["Tiny.assets"],
                     "environment": "aws://unknown-account/unknown-region",
                     "properties": {"templateFile": "Tiny.template.json",
                                    "stackTemplateAssetObjectUrl": f"s3://{bucket}/{key}"}}}
(out / "Tiny.template.json").write_text(text)
(out / "Tiny.assets.json").write_text(json.dumps({"version": "36.0.0", "files": assets}))
(out / "manifest.json").write_text(json.dumps({"version": "36.0.0", "artifacts": manifest}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    (project / "app.py").write_text(APP)
    cdk = {"app": "python3 app.py", "context": {"visibility": 30}}
    (project / "cdk.json").write_text(json.dumps(cdk))
    return project


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The smallest package that pip can install, without a network."""
    wheel = tmp_path / "tiny_package-1.0-py3-none-any.whl"
    info = "tiny_package-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_package.py", "ANSWER = 42\n")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            f"{info}/RECORD", f"tiny_package.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n"
        )
    return wheel


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    emulator = Emulator(directory=tmp_path / "emulator", port=0)
    try:
        yield emulator
    finally:
        emulator.stop()
