"""A machine without AWS: fake credentials, no profile, no region but the tests' own."""

import os

import pytest

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_SESSION_TOKEN": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith("WORKPOOL_")]:
    del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no emulator, last the chaos that goes on beside it."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(it)) for it in ("chaos", "e2e")])
