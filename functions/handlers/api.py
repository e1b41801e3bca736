"""Invoked by API Gateway: the routes of the HTTP API. Each route calls one verb. IAM decides who
may call which route."""

import base64
import binascii
import json
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from workpool.aws import logs
from workpool.core.request import parse_json
from workpool.errors import Internal, InvalidRequest, WorkpoolError
from workpool.verbs import control
from workpool.verbs.cancel import cancel, cancel_all
from workpool.verbs.listing import list_runs
from workpool.verbs.redrive import redrive
from workpool.verbs.stats import stats
from workpool.verbs.status import status, status_many
from workpool.verbs.submit import submit

app = APIGatewayHttpResolver()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Logs one line per request. All errors have the same shape: `WorkpoolError.as_json`."""
    response = app.resolve(event, context)
    logs.log("request", route=event.get("routeKey"), status=response["statusCode"])
    return response


@app.post("/pools/<pool>/runs")
def post_run(pool: str) -> Response[str]:
    return _json(202, submit(_body(), pool=pool))


@app.get("/pools/<pool>/runs/<run_id>")
def get_run(pool: str, run_id: str) -> Response[str]:
    names = (_query().get("include") or "").split(",")
    include = [name for name in names if name]
    return _status(status(pool, run_id, include=include))


@app.post("/pools/<pool>/status")
def post_status(pool: str) -> Response[str]:
    run_ids = _field("runIds", required=True)
    return _json(200, {"statuses": status_many(pool, run_ids)})


@app.get("/pools/<pool>/runs")
def get_runs(pool: str) -> Response[str]:
    query = _query()
    return _json(
        200,
        list_runs(
            pool,
            kind=query.get("kind"),
            limit=query.get("limit"),
            cursor=query.get("cursor"),
        ),
    )


@app.post("/pools/<pool>/cancel")
def post_cancel_all(pool: str) -> Response[str]:
    return _json(202, cancel_all(pool, before=_field("before", required=False)))


@app.post("/pools/<pool>/redrive")
def post_redrive(pool: str) -> Response[str]:
    run_ids = _field("runIds", required=False)
    return _json(202, {"redriving": redrive(pool, run_ids)})


@app.get("/pools/<pool>/stats")
def get_stats(pool: str) -> Response[str]:
    return _json(200, stats(pool))


@app.get("/pools")
def get_pools() -> Response[str]:
    return _json(200, control.list_pools())


@app.patch("/pools/<pool>")
def patch_pool(pool: str) -> Response[str]:
    return _json(200, control.change(pool, _body()))


@app.post("/pools/<pool>/runs/<run_id>/cancel")
def cancel_run(pool: str, run_id: str) -> Response[str]:
    return _status(cancel(pool, run_id))


@app.exception_handler(WorkpoolError)
def answer_refusal(error: WorkpoolError) -> Response[str]:
    if isinstance(error, Internal):
        logs.log_error("request-failed", error.__cause__ or error)
    return _json(error.status, error.as_json())


@app.exception_handler(Exception)
def answer_failure(error: Exception) -> Response[str]:
    logs.log_error("request-failed", error)
    return _json(500, Internal("the request failed; the logs say why").as_json())


@app.not_found
def answer_unknown_path(error: Exception) -> Response[str]:
    return _json(404, InvalidRequest("no such path; docs/api.md lists all requests").as_json())


def _query() -> dict[str, str]:
    return app.current_event.query_string_parameters or {}


def _body() -> Any:
    event = app.current_event
    text: str | bytes = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            text = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error) as error:
            raise InvalidRequest(f"the body must be base64 as announced: {error}") from error
    return parse_json(text)


def _field(name: str, *, required: bool) -> Any:
    """The value of the only field that the body may have."""
    text = app.current_event.get("body")
    body = _body() if text or required else {}
    if not isinstance(body, dict) or not body.keys() <= {name} or (required and name not in body):
        raise InvalidRequest(f"the request must be a JSON object with {name} alone")
    return body.get(name)


def _status(shape: dict[str, Any]) -> Response[str]:
    return _json(404 if shape["kind"] == "unknown" else 200, shape)


def _json(status_code: int, shape: Any) -> Response[str]:
    text = json.dumps(shape, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # A lone surrogate has no UTF-8: write it as JSON does, with a backslash.
    body = text.encode("utf-8", "backslashreplace").decode()
    return Response(status_code=status_code, content_type="application/json", body=body)
