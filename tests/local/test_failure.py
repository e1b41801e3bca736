"""What a person is told of a failed deploy, from what cdk really printed."""

from local.failure import deploy_failure

JSII = """\
jsii.errors.JavaScriptError:
  @jsii/kernel.RuntimeError: DurationAmountsCannotNegative: Received: -3
      at Kernel._Kernel_ensureSync (/tmp/lib/program.js:1:72922)

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/app.py", line 23, in <module>
    sqs.Queue(stack, "Queue2", visibility_timeout=cdk.Duration.seconds(-3))
                                                  ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/lib/jsii/_kernel/providers/process.py", line 359, in send
    raise RuntimeError(resp.error) from JavaScriptError(resp.stack)
RuntimeError: DurationAmountsCannotNegative: Received: -3
python3 app.py: Subprocess exited with error 1
"""

FAILED = """\
✨  Synthesis time: 5.6s

Tiny: deploying... [1/1]
Tiny | 2/4 | 7:30:14 AM | CREATE_FAILED           | AWS::SQS::Queue            | Bad (Bad) Invalid.
Tiny | 2/4 | 7:30:14 AM | CREATE_FAILED | AWS::SQS::Queue | Other Resource creation cancelled

Failed resources:
Tiny | 7:30:14 AM | CREATE_FAILED           | AWS::SQS::Queue            | Bad (Bad) Invalid.
❌  Tiny failed to deploy
"""

REFUSED = """\
✨  Synthesis time: 8.65s

Tiny: creating CloudFormation changeset...
Template format error: Unrecognized resource types: [AWS::CloudWatch::CompositeAlarm]
"""


def test_a_jsii_traceback_is_cut_to_its_message():
    assert deploy_failure(JSII) == "RuntimeError: DurationAmountsCannotNegative: Received: -3"


def test_failed_resources_are_named_once_and_what_was_only_cancelled_is_not():
    assert deploy_failure(FAILED) == "Bad (Bad) Invalid. [AWS::SQS::Queue]"


def test_a_refused_template_is_told_in_the_last_line():
    assert deploy_failure(REFUSED).startswith("Template format error: Unrecognized")


def test_a_long_story_is_cut():
    told = deploy_failure("\n".join(f"mistake {n}" for n in range(100))).splitlines()
    assert len(told) == 21
    assert told[-1] == "..."
