"""Counts the executions that wait in a pool's Retrier, with the caller's own credentials.

The only module of the command line that calls AWS itself: the HTTP API has no right to list them.
"""

from workpool.cli.failures import Stop


def count_waiting(
    pool: str, *, stack: str | None, profile: str | None, region: str | None, most: int = 1000
) -> int:
    """How many executions of the pool are running; `most` if there are more. 0 if the pool has no
    Retrier. Needs the right states:ListExecutions."""
    import boto3
    from botocore.exceptions import ClientError

    session = boto3.Session(profile_name=profile, region_name=region)
    _, partition, _, _, account, _ = (
        session.client("sts").get_caller_identity()["Arn"].split(":", 5)
    )
    machine = f"{session.region_name}:{account}:stateMachine:{stack or 'Workpool'}-{pool}-retrier"
    try:
        answer = session.client("stepfunctions").list_executions(
            stateMachineArn=f"arn:{partition}:states:{machine}",
            statusFilter="RUNNING",
            maxResults=most,
        )
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "StateMachineDoesNotExist":
            return 0
        raise Stop(
            "Refused",
            f"AWS refused to list the executions that wait ({code}): these credentials need "
            "states:ListExecutions",
        ) from error
    return len(answer["executions"])
