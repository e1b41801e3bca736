"""The client's verbs inside a function of the stack: calls the functions of `workpool.verbs`.

Each verb is imported when it is first used, so that an action that only submits loads nothing else.
Actions cannot operate a pool: AWS refuses that, because the role of their function has no right to
it.
"""

import os
from collections.abc import Sequence

from workpool._verbs import Json
from workpool.errors import InvalidRequest


def in_a_function() -> bool:
    """Whether this process is a function of the stack. If not, it is a caller's program."""
    return "WORKPOOL_RETRIER" in os.environ


class InProcess:
    def __init__(self, *, stack: str | None, profile: str | None, region: str | None) -> None:
        """Raises InvalidRequest if the client asks for a stack, profile or region that is not the
        function's own."""
        for name, value, own in (
            ("stack", stack, os.environ.get("WORKPOOL_STACK")),
            ("profile", profile, None),
            ("region", region, os.environ.get("AWS_REGION")),
        ):
            if value is not None and value != own:
                raise InvalidRequest(
                    f"{name} must be left out inside a function of the stack, whose pools it uses; "
                    f"got {value!r}"
                )

    @property
    def runs_table(self) -> str:
        from workpool.aws.environment import environment

        return environment().runs_table

    def check_pool(self, pool: str) -> None:
        from workpool.aws import pools

        pools.pool(pool)

    def submit(self, pool: str, body: dict[str, Json]) -> Json:
        from workpool.verbs.submit import submit

        return submit(body, pool=pool)

    def submit_many(self, pool: str, bodies: Sequence[Json]) -> Json:
        from workpool.verbs.submit import submit

        return submit({"runs": list(bodies)}, pool=pool)["results"]

    def status(
        self, pool: str, run_id: str, include: Sequence[str], deadline: float | None = None
    ) -> Json:
        from workpool.verbs.status import status

        return status(pool, run_id, include=include)

    def status_many(self, pool: str, run_ids: Sequence[str], deadline: float | None = None) -> Json:
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

    def cancel_all(self, pool: str, before: int | None) -> Json:
        from workpool.verbs.cancel import cancel_all

        return cancel_all(pool, before=before)

    def stats(self, pool: str) -> Json:
        from workpool.verbs.stats import stats

        return stats(pool)

    def change(self, pool: str, body: dict[str, Json]) -> Json:
        from workpool.verbs.control import change

        return change(pool, body)

    def redrive(self, pool: str, run_ids: Sequence[str] | None) -> Json:
        from workpool.verbs.redrive import redrive

        return {"redriving": redrive(pool, None if run_ids is None else list(run_ids))}

    def fetch(self, url: str, deadline: float | None = None) -> Json:
        from workpool._http import fetch

        return fetch(url, deadline)
