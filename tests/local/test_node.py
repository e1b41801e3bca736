"""Node is missing, too old or without npm: each is told in one line."""

import pytest

from local import LocalError, node
from local.node import cdk_command, require_node, require_npm


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(name, says):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\necho {says}\n")
        tool.chmod(0o755)

    return put


def test_an_old_node_is_named_with_its_version(tools, tmp_path):
    tools("node", "v18.19.1")
    with pytest.raises(LocalError) as error:
        require_node()
    assert str(error.value) == f"Node 20 or newer is needed, but {tmp_path}/node is v18.19.1"


def test_a_missing_node_is_told(tools):
    with pytest.raises(LocalError, match="Node is missing"):
        require_node()


def test_a_missing_npm_is_told(tools):
    tools("node", "v22.1.0")
    with pytest.raises(LocalError, match="npm is missing"):
        require_npm()


def test_a_checkout_without_the_cdk_says_how_to_install_it(tools, tmp_path, monkeypatch):
    tools("node", "v20.0.0")
    monkeypatch.setattr(node, "CHECKOUT", tmp_path)
    with pytest.raises(LocalError, match="npm ci"):
        cdk_command()
