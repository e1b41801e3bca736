"""The routes that operate pools and that take many runs at once, and the client, which answers the
same in process and over HTTP."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

import workpool
from handlers import api
from tests.support.http_server import QuietHandler, serve
from tests.support.invocations import context_with, http_event
from tests.support.runs import SETTLED
from workpool import IdempotentWorkpool, client
from workpool._http import Http
from workpool.core import clock
from workpool.core.run import Payload, open_partition

NOW = 1_790_000_000_000
PARKED = SETTLED | {
    "finished_at": NOW,
    "completion": "parked",
    "completion_claim": "c1",
    "completion_error": "no luck",
    "open": open_partition("default", "r1", parked=True),
}


@pytest.fixture(autouse=True)
def deployed(world) -> None:
    world.deploy_jobs()


def call(method: str, path: str, body: str | None = None) -> tuple[int, Any]:
    """What the API's function answers."""
    split = urlsplit(path)
    asked = http_event(method, split.path, body)
    if split.query:
        asked |= {"queryStringParameters": dict(parse_qsl(split.query))}
    answer = api.handler(asked, context_with(29_000))
    return answer["statusCode"], json.loads(answer["body"])


# Routes


@pytest.mark.promise(
    "HTTP API",
    "`POST /pools/{pool}/runs` also accepts a batch: it checks "
    "each run on its own and answers in order",
)
@pytest.mark.promise("HTTP API", "A batch with a bad envelope is refused as a whole")
def test_a_batch_is_accepted_and_its_envelope_checked(world) -> None:
    runs = [
        {"action": "jobs.work"},
        {"action": "jobs.nothing"},
        {"action": "jobs.work", "pool": "x"},
    ]
    status, shape = call("POST", "/pools/other/runs", json.dumps({"runs": runs}))
    assert (status, list(shape)) == (202, ["results"])
    codes = [it.get("error", {}).get("code") for it in shape["results"]]
    assert codes == [None, "UnknownAction", "InvalidRequest"]
    assert [it["run"]["S"].partition("#")[0] for it in world.items()] == ["other"]
    assert call("POST", "/pools/other/runs", '{"runs": []}')[0] == 400
    assert call("POST", "/pools/other/runs", '{"runs": [], "pool": "other"}')[0] == 400


@pytest.mark.promise(
    "HTTP API", "`POST /pools/{pool}/status` answers up to 100 statuses, in the order of the ids"
)
def test_many_statuses_are_read(world) -> None:
    world.put(world.a_run())
    status, shape = call("POST", "/pools/default/status", '{"runIds": ["r2", "r1"]}')
    assert status == 200
    assert [it["kind"] for it in shape["statuses"]] == ["unknown", "enqueued"]


@pytest.mark.promise("HTTP API", "A bad list of run ids is refused")
@pytest.mark.parametrize("body", [None, "{}", "[]", '{"runIds": []}', '{"runIds": ["a"], "x": 1}'])
def test_a_malformed_question_for_statuses_is_refused(body: str | None) -> None:
    status, shape = call("POST", "/pools/default/status", body)
    assert (status, shape["error"]["code"]) == (400, "InvalidRequest")


@pytest.mark.promise(
    "HTTP API",
    "With `?include=args,context,attempts`, a status shows what "
    "the query asks for and nothing else",
)
def test_a_status_includes_what_the_query_asks_for(world) -> None:
    world.put(world.a_run(args=Payload('{"n":1}'), context=Payload("2")))
    status, shape = call("GET", "/pools/default/runs/r1?include=args,context,attempts")
    assert (status, shape["args"], shape["context"], shape["attempts"]) == (200, {"n": 1}, 2, [])
    assert call("GET", "/pools/default/runs/r1?include=secrets")[0] == 400
    assert call("GET", "/pools/default/runs/r2?include=args") == (
        404,
        {"runId": "r2", "kind": "unknown"},
    )


@pytest.mark.promise(
    "HTTP API",
    "`GET /pools/{pool}/runs` lists the open runs, oldest first, "
    "in pages without loss or repetition",
)
@pytest.mark.promise(
    "HTTP API",
    "The query `kind` selects which runs are listed; ended runs are listed only with `kind=parked`",
)
def test_runs_are_listed_by_kind_in_pages(world) -> None:
    for number in (1, 2, 3):
        world.put(world.a_run(run_id=f"r{number}", enqueued_at=NOW + number))
    status, page = call("GET", "/pools/default/runs?limit=2&kind=enqueued")
    assert (status, [it["runId"] for it in page["runs"]]) == (200, ["r1", "r2"])
    status, last = call("GET", f"/pools/default/runs?limit=2&cursor={page['cursor']}")
    assert (status, [it["runId"] for it in last["runs"]], "cursor" in last) == (200, ["r3"], False)
    for bad in ("kind=ended", "limit=0", "cursor=x"):
        assert call("GET", f"/pools/default/runs?{bad}")[0] == 400


@pytest.mark.promise(
    "HTTP API",
    "`POST /pools/{pool}/cancel` answers at once, and the walk through the runs starts at once",
)
@pytest.mark.promise(
    "HTTP API", "While a cancelAll is under way, `GET /pools` shows its `cancelingBefore`"
)
def test_cancel_all_is_accepted(world) -> None:
    assert call("POST", "/pools/default/cancel") == (202, {"canceling": True})
    assert call("GET", "/pools")[1]["pools"][0]["cancelingBefore"] == NOW


@pytest.mark.promise("HTTP API", "`POST /pools/{pool}/cancel` takes the time of the first call")
def test_cancel_all_takes_a_time() -> None:
    path = "/pools/default/cancel"
    assert call("POST", path, json.dumps({"before": NOW - 7}))[0] == 202
    assert call("GET", "/pools")[1]["pools"][0]["cancelingBefore"] == NOW - 7
    for bad in ('{"before": "now"}', '{"since": 1}', "[]", f'{{"before": {NOW + 300_001}}}'):
        assert call("POST", path, bad)[0] == 400, bad
    assert call("POST", path, "{}")[0] == 202


@pytest.mark.promise("HTTP API", "`POST /pools/{pool}/redrive` announces all parked runs again")
@pytest.mark.promise("HTTP API", "A redrive that names runs redrives only those")
def test_a_redrive_is_accepted(world) -> None:
    world.put(world.a_run(**PARKED))
    assert call("POST", "/pools/default/redrive", '{"runIds": ["r2"]}') == (202, {"redriving": 0})
    assert call("POST", "/pools/default/redrive") == (202, {"redriving": 1})
    assert call("POST", "/pools/default/redrive", '{"runIds": []}')[0] == 400
    assert call("POST", "/pools/default/redrive", '{"ids": []}')[0] == 400


@pytest.mark.promise("HTTP API", "`GET /pools/{pool}/stats` answers the statistics of the pool")
@pytest.mark.promise(
    "HTTP API",
    "`GET /pools` lists each pool: its name, its limit, whether it is paused, and its dead letters",
)
def test_statistics_and_pools_are_read() -> None:
    status, shape = call("GET", "/pools/default/stats")
    assert (status, shape["statsWindowMs"]) == (200, 300_000)
    status, shape = call("GET", "/pools")
    assert (status, [it["name"] for it in shape["pools"]]) == (200, ["default", "other"])


@pytest.mark.promise(
    "HTTP API", "`PATCH /pools/{pool}` changes the limit of a pool and pauses it, without a deploy"
)
def test_a_pool_is_changed() -> None:
    status, shape = call("PATCH", "/pools/default", '{"maxParallelism": 3, "paused": true}')
    assert (status, shape["maxParallelism"], shape["paused"]) == (200, 3, True)
    assert call("PATCH", "/pools/default", '{"maxParallelism": 0}')[0] == 400
    assert call("PATCH", "/pools/default")[0] == 400


@pytest.mark.promise("HTTP API", "A pool that is not deployed is refused as `UnknownPool`")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/pools/ghost/status", '{"runIds": ["r1"]}'),
        ("GET", "/pools/ghost/runs", None),
        ("POST", "/pools/ghost/cancel", None),
        ("POST", "/pools/ghost/redrive", None),
        ("GET", "/pools/ghost/stats", None),
        ("PATCH", "/pools/ghost", '{"paused": true}'),
        ("POST", "/pools/ghost/runs", '{"runs": [{"action": "jobs.work"}]}'),
    ],
)
def test_every_route_refuses_a_pool_that_is_not_deployed(method, path, body) -> None:
    status, shape = call(method, path, body)
    assert (status, shape["error"]["code"]) == (404, "UnknownPool")


@pytest.mark.promise(
    "HTTP API", "A refusal by AWS is answered as `Throttled` or `Internal`, without its details"
)
@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [("ThrottlingException", 429, "Throttled"), ("AccessDeniedException", 500, "Internal")],
)
def test_what_aws_refuses_of_these_is_told_without_details(
    world, refusal: str, status: int, code: str
) -> None:
    for operation, request in {
        "query": ("GET", "/pools/default/runs"),
        "get_item": ("GET", "/pools"),
        "update_item": ("POST", "/pools/default/cancel"),
        "put_function_concurrency": ("PATCH", "/pools/default", '{"paused": true}'),
        "batch_get_item": ("POST", "/pools/default/status", '{"runIds": ["r1"]}'),
    }.items():
        world.refuse(operation, refusal)
        answered, shape = call(*request)
        assert (answered, shape["error"]["code"]) == (status, code), operation
        assert "refused by the test" not in shape["error"]["message"]


# The client


class Server(QuietHandler):
    """The API's function behind an address."""

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        status, shape = call(self.command, self.path, body or None)
        data = json.dumps(shape).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do


@pytest.fixture(params=["in process", "over HTTP"])
def pool(request, world, monkeypatch) -> Iterator[IdempotentWorkpool]:
    pool = IdempotentWorkpool("default")
    if request.param == "in process":
        yield pool
        return
    with serve(Server) as url:
        monkeypatch.setenv("WORKPOOL_API_URL", url)
        pool.__dict__["_own_transport"] = Http(stack="Test")
        yield pool


@pytest.mark.promise(
    "The Python client", "`run_batch` returns a run id or an error for each request, in order"
)
@pytest.mark.promise(
    "The Python client", "`status_batch` returns the statuses in the order of the ids"
)
def test_the_client_submits_a_batch_and_reads_its_statuses(world, pool) -> None:
    first, refused, second = pool.run_batch(
        [
            {"action": "jobs.work", "args": {"n": 1}},
            {"action": "jobs.nothing"},
            {"action": "jobs.work", "options": {"annotation": "o1"}},
        ]
    )
    assert isinstance(refused, workpool.UnknownAction)
    statuses = pool.status_batch([second, first, "ghost"])
    assert [it.run_id for it in statuses] == [second, first, "ghost"]
    assert [it.kind for it in statuses] == ["enqueued", "enqueued", "unknown"]
    assert statuses[0].annotation == "o1"
    assert world.run(f"default#{first}").request is not None  # A key of the client's own.


@pytest.mark.promise(
    "The Python client",
    "`run_batch` splits a batch that is too large for one request, by number and by bytes",
)
def test_the_client_splits_what_one_request_does_not_take(pool, monkeypatch) -> None:
    monkeypatch.setattr(client, "BATCH", 2)
    monkeypatch.setattr(client, "STATUSES", 2)
    ids = pool.run_batch([{"action": "jobs.work", "args": {"n": n}} for n in range(5)])
    assert len(set(ids)) == 5
    assert [it.run_id for it in pool.status_batch(ids)] == ids


@pytest.mark.promise(
    "The Python client",
    "`run_batch` splits a batch that is too large for one request, by number and by bytes",
)
def test_the_client_splits_batches_by_their_bytes_too(monkeypatch) -> None:
    monkeypatch.setattr(client, "BATCH_BYTES", 100)
    sizes = [len(batch) for batch in client._batches([{"a": "x" * 30}] * 5)]
    assert sizes == [2, 2, 1]


@pytest.mark.promise(
    "The Python client", "`run_batch` accepts decorated functions in place of names"
)
def test_the_client_names_functions_in_a_batch(world, pool) -> None:
    from workpool import lookup

    work, done = lookup.find("jobs.work", "action"), lookup.find("jobs.done", "completion")
    (run_id,) = pool.run_batch([{"action": work, "options": {"onComplete": done}}])
    run = world.run(f"default#{run_id}")
    assert (run.action, run.on_complete) == ("jobs.work", "jobs.done")


@pytest.mark.promise("The Python client", "`runs` lists the runs of all pages")
def test_the_client_lists_runs_over_all_pages(world, pool, monkeypatch) -> None:
    from workpool.verbs import listing

    monkeypatch.setattr(listing, "MAX_LIMIT", 2)
    for number in range(5):
        world.put(world.a_run(run_id=f"r{number}", enqueued_at=NOW + number))
    assert [it.run_id for it in pool.runs()] == [f"r{number}" for number in range(5)]
    assert [it.run_id for it in pool.runs("scheduled")] == []


@pytest.mark.promise("The Python client", "`status` includes what `include` asks for")
def test_the_client_includes_what_is_asked_for(world, pool) -> None:
    run_id = pool.run("jobs.work", {"n": 1})
    status = pool.status(run_id, include=["args", "attempts"])
    assert (status.args, status.attempts, status.context) == ({"n": 1}, [], None)
    assert pool.status(run_id).args is None
    assert not status.succeeded
    shape = status.shape()
    assert shape.keys() >= {"runId", "enqueuedAt", "args", "attempts"}
    assert "result" not in shape and "context" not in shape


@pytest.mark.promise("The Python client", "`pools` lists all pools")
@pytest.mark.promise("The Python client", "`pause`, `resume` and `scale` change the pool")
def test_the_client_pauses_resumes_and_scales(world, pool) -> None:
    assert pool.pause()["paused"] is True
    assert world.lambdas.limits() == (0, "Disabled", 10)
    assert pool.resume()["paused"] is False
    assert pool.scale(20)["maxParallelism"] == 20
    assert world.lambdas.limits() == (20, "Enabled", 20)
    assert [it["name"] for it in pool.pools()] == ["default", "other"]
    assert pool.pools()[0]["maxParallelism"] == 20
    with pytest.raises(workpool.InvalidRequest, match="maxParallelism must be an integer from 1"):
        pool.scale(0)


@pytest.mark.promise(
    "The Python client",
    "`cancel_all` cancels the open runs of the pool, and `redrive` redrives its parked runs",
)
def test_the_client_cancels_all_and_redrives(world, pool) -> None:
    pool.cancel_all()
    assert world.lambdas.invoked == [("Test-sweeper", {"cancel": "default"})]
    world.put(world.a_run(**PARKED))
    assert pool.redrive(["ghost"]) == 0
    assert [(it.run_id, it.completion_error) for it in pool.runs("parked")] == [("r1", "no luck")]
    assert pool.redrive() == 1


@pytest.mark.promise(
    "The Python client", "A repeated `cancel_all` cancels nothing that was submitted since"
)
def test_the_client_repeats_a_cancel_all_with_the_time_of_its_first_call(
    world, pool, monkeypatch
) -> None:
    """The first answer is lost on its way, and time passes before the request is repeated."""
    monkeypatch.setattr(clock, "sleep", world.tick)
    world.refuse("invoke", "ServiceException")  # The row is written by then.
    try:
        pool.cancel_all()
    except workpool.Internal:  # In process nothing is repeated: the caller may.
        world.tick(1)
        pool.cancel_all(before=NOW)
    assert world.now_ms > NOW
    assert pool.pools()[0]["cancelingBefore"] == NOW


@pytest.mark.promise(
    "The Python client", "`stats` returns the statistics, and `log_stats` also logs them"
)
def test_the_client_reads_and_logs_the_statistics(pool, capsys) -> None:
    found = pool.stats()
    assert found["pending"] == found["oldestPending"] == 0
    capsys.readouterr()
    assert pool.log_stats() == found
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = (it for it in lines if it["event"] == "stats")
    assert line == {"event": "stats", "pool": "default", **found}


VERBS: dict[str, Callable[[IdempotentWorkpool], Any]] = {
    "run": lambda pool: pool.run("jobs.work"),
    "run_batch": lambda pool: pool.run_batch([{"action": "jobs.work"}]),
    "status": lambda pool: pool.status("r1"),
    "status_batch": lambda pool: pool.status_batch(["r1"]),
    "runs": lambda pool: list(pool.runs()),
    "cancel": lambda pool: pool.cancel("r1"),
    "cancel_all": lambda pool: pool.cancel_all(),
    "transact_item": lambda pool: pool.transact_item("jobs.work"),
    "stats": lambda pool: pool.stats(),
    "pause": lambda pool: pool.pause(),
    "redrive": lambda pool: pool.redrive(),
}


@pytest.mark.promise(
    "The Python client",
    "The client refuses the same, with the same errors, inside a function and outside",
)
@pytest.mark.parametrize("verb", VERBS)
def test_the_client_refuses_a_pool_that_is_not_deployed(pool, verb: str) -> None:
    pool.pool = "ghost"
    with pytest.raises(workpool.UnknownPool, match="no pool 'ghost'; deployed are: default, other"):
        VERBS[verb](pool)


@pytest.mark.promise(
    "The Python client",
    "The client refuses the same, with the same errors, inside a function and outside",
)
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda pool: pool.status("r1", include=["bogus"]),
            "include must be one of args, context, attempts, got 'bogus'",
        ),
        (
            lambda pool: list(pool.runs("bogus")),
            "kind must be one of enqueued, scheduled, running, parked, got 'bogus'",
        ),
        (lambda pool: pool.redrive([]), "runIds must be a list of 1 to 1000 ids"),
        (
            lambda pool: pool.cancel_all(before=NOW * 2),
            f"before must be epoch milliseconds, at most five minutes ahead of now, got {NOW * 2}",
        ),
        (lambda pool: pool.run("jobs.work", base=0.5), "options.base must be >= 1, got 0.5"),
    ],
)
def test_the_client_refuses_a_bad_request_with_the_same_words(pool, ask, message: str) -> None:
    with pytest.raises(workpool.InvalidRequest) as caught:
        ask(pool)
    assert str(caught.value) == message


@pytest.mark.promise(
    "The Python client",
    "The client refuses the same, with the same errors, inside a function and outside",
)
@pytest.mark.parametrize(
    ("verb", "operation"),
    [
        ("run", "put_item"),
        ("status", "get_item"),
        ("status_batch", "batch_get_item"),
        ("runs", "query"),
        ("cancel", "get_item"),
        ("cancel_all", "update_item"),
        ("stats", "query"),
        ("pause", "put_function_concurrency"),
        ("redrive", "query"),
    ],
)
@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ("ThrottlingException", workpool.Throttled),
        ("AccessDeniedException", workpool.Internal),
    ],
)
def test_the_client_raises_its_own_errors_for_what_aws_refuses(
    world, pool, monkeypatch, verb: str, operation: str, refusal: str, error: type[Exception]
) -> None:
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    world.put(world.a_run())
    world.refuse(operation, refusal, times=4)  # The client outside tries as often.
    with pytest.raises(error, match=refusal):
        VERBS[verb](pool)


@pytest.mark.promise(
    "The Python client",
    "Inside a function, a client of another stack, profile or region is refused",
)
def test_inside_a_function_a_client_of_another_stack_is_refused(world) -> None:
    assert IdempotentWorkpool("default", stack="Test", region="us-east-1").stats()["pending"] == 0
    for other in ({"stack": "Another"}, {"profile": "me"}, {"region": "eu-west-1"}):
        (name,) = other
        with pytest.raises(workpool.InvalidRequest, match=f"{name} must be left out inside"):
            IdempotentWorkpool("default", **other).stats()
