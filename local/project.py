"""A copy of the template with other code and configuration in the place of the team's own.

The demo, chaos and the end-to-end tests deploy such a copy, so nothing that a team writes into
`cdk.json`, `functions/actions`, `functions/completions` or `functions/requirements.txt` can
change them.
"""

import json
import shutil
from pathlib import Path

from local.node import CHECKOUT

_TEMPLATE = ("infra", "functions/handlers", "functions/workpool")
_CDK_JSON = {"app": "python3 app.py", "versionReporting": False}
_NO_SOURCE = shutil.ignore_patterns("__pycache__", "*.egg-info")


def copy_project(to: Path, *, code: Path) -> Path:
    """Copy the template to `to`, with `code/actions` and `code/completions` as the user's code.

    The copy's `cdk.json` has no context: give it to `deploy`.
    """
    for folder in _TEMPLATE:
        shutil.copytree(CHECKOUT / folder, to / folder, ignore=_NO_SOURCE)
    for folder in ("actions", "completions"):
        shutil.copytree(code / folder, to / "functions" / folder, ignore=_NO_SOURCE)
        # Make it a regular package: to a namespace package Python prefers any other on its path.
        (to / "functions" / folder / "__init__.py").touch()
    shutil.copy(CHECKOUT / "app.py", to)
    (to / "cdk.json").write_text(json.dumps(_CDK_JSON))
    return to
