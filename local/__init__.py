"""A local AWS for this project: an emulator to start, to deploy to and to stop.

It deploys a project as `cdk deploy` deploys it to a real account, and adds nothing to the
template. The Makefile, the demo, chaos and the end-to-end tests use it. Nothing here is deployed.
"""

from local.deploy import Deployment, deploy
from local.emulator import Emulator
from local.errors import LocalError
from local.project import copy_project

__all__ = ["Deployment", "Emulator", "LocalError", "copy_project", "deploy"]
