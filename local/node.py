"""Check for Node and for what `npm ci` installs before they are needed, to name what is missing.

It installs nothing. The Makefile calls it before `npm ci`, the deploy before each `cdk`.
"""

import re
import shutil
import subprocess
from pathlib import Path

from local.errors import LocalError

CHECKOUT = Path(__file__).resolve().parents[1]

_OLDEST = 20


def require_node() -> str:
    """The path of a Node that is new enough."""
    node = shutil.which("node")
    if node is None:
        raise LocalError(f"Node is missing: install Node {_OLDEST} or newer (with npm)")
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    version = answer.stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    if major is None:
        raise LocalError(f"{node} does not run: {answer.stderr.strip() or version}")
    if int(major[1]) < _OLDEST:
        raise LocalError(f"Node {_OLDEST} or newer is needed, but {node} is {version}")
    return node


def require_npm() -> None:
    """Raise LocalError unless `npm ci` can work."""
    require_node()
    if shutil.which("npm") is None:
        raise LocalError("npm is missing: install it beside Node")


def cdk_command() -> list[str]:
    """The command that runs the checkout's own CDK. Raises LocalError if something is missing."""
    cdk = CHECKOUT / "node_modules" / "aws-cdk" / "bin" / "cdk"
    node = require_node()
    if not cdk.exists():
        raise LocalError("The cdk command is not installed in node_modules. Install it: npm ci")
    return [node, str(cdk)]
