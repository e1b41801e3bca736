from workpool.attempt import attempt
from workpool.complete import complete
from workpool.submit import submit
from workpool.status import status


def test_smoke(world, message, monkeypatch):
    world.code("actions", "jobs", "from workpool import action\n@action\ndef work(ctx, args):\n    return {'a': args}\n")
    world.code("completions", "jobs", "from workpool import completion\n@completion\ndef done(ctx, context, result):\n    return []\n")
    import importlib, sys
    monkeypatch.syspath_prepend(str(world.source))
    for n in [m for m in sys.modules if m.split(".")[0] in ("actions","completions")]: monkeypatch.delitem(sys.modules, n)
    a = submit({"action": "jobs.work", "args": {"x": 1}, "options": {"onComplete": "jobs.done", "context": [1]}})
    run = world.run("default#" + a["runId"])
    assert attempt(message(run), remaining_ms=lambda: 70000) is None
    print(status("default", a["runId"]))
    assert complete(run.key, remaining_ms=lambda: 60000) is None
    print(status("default", a["runId"]))
    print(world.run(run.key))
