"""A local AWS for this project: an emulator to start, deploy to and stop.

It deploys the project as `cdk deploy` does to a real account and adds nothing to the template.
The Makefile and the end-to-end tests call it. Nothing here is deployed.
"""

from local.deploy import Deployment, deploy
from local.emulator import Emulator
from local.errors import LocalError

__all__ = ["Deployment", "Emulator", "LocalError", "deploy"]
