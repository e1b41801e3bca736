"""The client's verbs inside a function of the stack: the functions of `workpool.verbs` themselves.

Each is imported when it is first used, so that an action that only submits loads no more than that.
What operates a pool is not for its own actions: their role has no right to it, and AWS says so.
"""

import os
from collections.abc import Sequence

from workpool._verbs import Json
from workpool.errors import InvalidRequest


def in_a_function() -> bool:
    """Whether this process is a function of the stack, and not a program that uses it."""
    return "WORKPOOL_RETRIER" in os.environ


class InProcess:
    def __init__(self, *, stack: str | None, profile: str | None, region: str | None) -> None:
        """Raises InvalidRequest for a client of another stack, profile or region than the
        function's own."""
        for name, given, own in (
            ("stack", stack, os.environ.get("WORKPOOL_STACK")),
            ("profile", profile, None),
            ("region", region, os.environ.get("AWS_REGION")),
        ):
            if given is not None and given != own:
                raise InvalidRequest(
                    f"{name} must be left out inside a function of the stack, whose pools it uses; "
                    f"got {given!r}"
                )

    @property
    def runs_table(self) -> str:
        from workpool.aws.environment import environment

        return environment().runs_table

    def submit(self, pool: str, body: dict[str, Json]) -> Json:
        from workpool.verbs.submit import submit

        return submit(body, pool=pool)

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json:
        from workpool.verbs.submit import submit

        return submit({"runs": list(bodies)}, pool=pool)["results"]

    def status(self, pool: str, run_id: str, include: Sequence[str]) -> Json:
        from workpool.verbs.status import status

        return status(pool, run_id, include=include)

    def status_many(self, pool: str, run_ids: Sequence[str]) -> Json:
        from workpool.verbs.status import status_many

        return status_many(pool, list(run_ids))

    def runs(self, pool: str, kind: str | None, cursor: str | None) -> Json:
        from workpool.verbs.listing import list_runs

        return list_runs(pool, kind=kind, limit=None, cursor=cursor)

    def pools(self) -> Json:
        from workpool.verbs.control import list_pools

        return list_pools()

    def cancel(self, pool: str, run_id: str) -> Json:
        from workpool.verbs.cancel import cancel

        return cancel(pool, run_id)

    def cancel_all(self, pool: str) -> Json:
        from workpool.verbs.cancel import cancel_all

        return cancel_all(pool)

    def stats(self, pool: str) -> Json:
        from workpool.verbs.stats import stats

        return stats(pool)

    def change(self, pool: str, body: dict[str, Json]) -> Json:
        from workpool.verbs.control import change

        return change(pool, body)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json:
        from workpool.verbs.redrive import redrive

        return {"redriving": redrive(pool, None if run_ids is None else list(run_ids))}

    def fetch(self, url: str) -> Json:
        from workpool._http import fetch

        return fetch(url)
