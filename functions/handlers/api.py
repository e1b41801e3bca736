"""Invoked by API Gateway: the routes of the HTTP API, each one verb. IAM decides who may call."""

import base64
import binascii
import json
from typing import Any
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from workpool import clients, events, settings
from workpool.cancel import cancel
from workpool.errors import Internal, InvalidRequest, WorkpoolError
from workpool.request import parse_json
from workpool.status import status
from workpool.submit import submit

app = APIGatewayHttpResolver()


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One line per request; every error has the one shape of `WorkpoolError.payload`."""
    answer = app.resolve(event, context)
    events.log("request", route=event.get("routeKey"), status=answer["statusCode"])
    return answer


@app.post("/pools/<pool>/runs")
def post_run(pool: str) -> Response[str]:
    body = _body()
    if not isinstance(body, dict):
        raise InvalidRequest("the request must be a JSON object")
    if "pool" in body:
        raise InvalidRequest("pool is not a field here: the path names it")
    with clients.told():
        return _json(202, submit({**body, "pool": unquote(pool)}))


@app.get("/pools/<pool>/runs/<run_id>")
def get_run(pool: str, run_id: str) -> Response[str]:
    settings.pool(unquote(pool))
    with clients.told():
        return _status(status(unquote(pool), unquote(run_id)))


@app.post("/pools/<pool>/runs/<run_id>/cancel")
def cancel_run(pool: str, run_id: str) -> Response[str]:
    settings.pool(unquote(pool))
    with clients.told():
        return _status(cancel(unquote(pool), unquote(run_id)))


@app.exception_handler(WorkpoolError)
def refused(error: WorkpoolError) -> Response[str]:
    if isinstance(error, Internal):
        events.failed("request-failed", error.__cause__ or error)
    return _json(error.status, error.payload())


@app.exception_handler(Exception)
def failed(error: Exception) -> Response[str]:
    events.failed("request-failed", error)
    return _json(500, Internal("the request failed; the logs say why").payload())


@app.not_found
def not_found(error: Exception) -> Response[str]:
    return _json(404, InvalidRequest("no such path; see the API's table in the README").payload())


def _body() -> Any:
    event = app.current_event
    text: str | bytes = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            text = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error) as error:
            raise InvalidRequest(f"the body must be base64 as announced: {error}") from error
    return parse_json(text)


def _status(shape: dict[str, Any]) -> Response[str]:
    return _json(404 if shape["kind"] == "unknown" else 200, shape)


def _json(status_code: int, shape: Any) -> Response[str]:
    body = json.dumps(shape, separators=(",", ":"))
    return Response(status_code=status_code, content_type="application/json", body=body)
