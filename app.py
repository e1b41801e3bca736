"""Entry point of the CDK: from the context and one environment variable it builds the stack.

It reads `cdk.json`'s context and never the network, git or a clock, so the same checkout gives the
same template everywhere. Called by `cdk synth` and `cdk deploy`.
"""

import os
import sys

from aws_cdk import App

from infra.config import ConfigMistakes, WorkpoolConfig, default_log_level
from infra.feature_flags import FEATURE_FLAGS
from infra.stack import WorkpoolStack

app = App(context=FEATURE_FLAGS)  # the context of cdk.json wins
log_level, warning = default_log_level(os.environ.get("IDEMPOTENT_WORKPOOL_LOG_LEVEL"))
if warning:
    print(warning, file=sys.stderr)
try:
    config = WorkpoolConfig.from_context(app.node.get_all_context(), log_level=log_level)
except ConfigMistakes as mistakes:
    sys.exit(str(mistakes))
WorkpoolStack(app, config.stack_name, config=config)
app.synth()
