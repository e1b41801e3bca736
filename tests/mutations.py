"""Do the tests notice? Breaks the library on purpose, one line at a time, and runs them.

`.venv/bin/python tests/mutations.py [word ...]` runs the mutations whose description or file has
one of the words, all without. Prints a table of what found each; exits 1 if one survives. Works
on a copy: nothing in the checkout changes. Not collected by pytest; about ten minutes.
"""

# ruff: noqa: E501

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
AT_ONCE = 2
ALL = ("tests/unit", "tests/integration")
SLOWEST_SECONDS = 180


class Mutation(NamedTuple):
    file: str  # of functions/workpool
    old: str  # stands there once
    new: str
    breaks: str


# fmt: off
MUTATIONS = [Mutation(*it) for it in [
    # store: the parts of each condition
    ("aws/store.py", '"attribute_not_exists(#run) OR #expiresAt <= :now"', '"attribute_exists(#run) OR #expiresAt <= :now OR attribute_not_exists(#run)"', "create: over a living run"),
    ("aws/store.py", '"attribute_not_exists(#run) OR #expiresAt <= :now"', '"attribute_not_exists(#run) OR (#expiresAt <= :now AND #expiresAt > :now)"', "create: not over an expired run"),
    ("aws/store.py", "#expiresAt <= :now", "#expiresAt < :now", "create: a second too late over an expired run"),
    ("aws/store.py", 'condition="#kind IN (:enqueued, :scheduled) AND #due = :due"', 'condition="(#kind IN (:enqueued, :scheduled) OR attribute_exists(#kind)) AND #due = :due"', "claim: from any state"),
    ("aws/store.py", 'IN (:enqueued, :scheduled) AND #due = :due"', 'IN (:enqueued, :scheduled) AND (#due = :due OR attribute_exists(#kind))"', "claim: at any due"),
    ("aws/store.py", 'condition="#kind = :running AND #claim = :was" + guard', 'condition="(#kind = :running OR attribute_exists(#kind)) AND #claim = :was" + guard', "finish: from any state"),
    ("aws/store.py", 'condition="#kind = :running AND #claim = :was" + guard', 'condition="#kind = :running AND (#claim = :was OR attribute_exists(#kind))" + guard', "finish: by any claim"),
    ("aws/store.py", 'if finish.result == "failed" else ""', 'if finish.result == "never" else ""', "finish: a failure though asked to cancel"),
    ("aws/store.py", 'if finish.result == "failed" else ""', 'if finish.result != "canceled" else ""', "finish: no success once asked to cancel"),
    ("aws/store.py", '"#kind = :running AND #claim = :was AND attribute_not_exists(#cancelRequested)"', '"(#kind = :running OR attribute_exists(#kind)) AND #claim = :was AND attribute_not_exists(#cancelRequested)"', "reschedule: from any state"),
    ("aws/store.py", '"#kind = :running AND #claim = :was AND attribute_not_exists(#cancelRequested)"', '"#kind = :running AND (#claim = :was OR attribute_exists(#kind)) AND attribute_not_exists(#cancelRequested)"', "reschedule: by any claim"),
    ("aws/store.py", '"#kind = :running AND #claim = :was AND attribute_not_exists(#cancelRequested)"', '"#kind = :running AND #claim = :was"', "reschedule: though asked to cancel"),
    ("aws/store.py", '"#kind IN (:enqueued, :scheduled) AND #enqueuedAt = :enqueuedAt"', '"(#kind IN (:enqueued, :scheduled) OR attribute_exists(#kind)) AND #enqueuedAt = :enqueuedAt"', "cancel: from any state"),
    ("aws/store.py", '"#kind IN (:enqueued, :scheduled) AND #enqueuedAt = :enqueuedAt"', '"#kind IN (:enqueued, :scheduled) AND (#enqueuedAt = :enqueuedAt OR attribute_exists(#kind))"', "cancel: another creation"),
    ("aws/store.py", 'condition="#kind = :running AND #claim = :was",', 'condition="(#kind = :running OR attribute_exists(#kind)) AND #claim = :was",', "ask to cancel: in any state"),
    ("aws/store.py", 'condition="#kind = :running AND #claim = :was",', 'condition="#kind = :running AND (#claim = :was OR attribute_exists(#kind))",', "ask to cancel: another attempt"),
    ("aws/store.py", '"#completion = :pending AND (attribute_not_exists(#completionLease)"', '"(#completion = :pending OR attribute_exists(#kind)) AND (attribute_not_exists(#completionLease)"', "lease: a completion that is done"),
    ("aws/store.py", "(attribute_not_exists(#completionLease)", "(attribute_exists(#nothing)", "lease: never the first"),
    ("aws/store.py", '" OR #completionLease <= :now)"', '" OR (#completionLease <= :now OR attribute_exists(#kind)))"', "lease: though another holds it"),
    ("aws/store.py", '" OR #completionLease <= :now)"', '" OR (#completionLease <= :now AND #completionLease > :now))"', "lease: never a lapsed one"),
    ("aws/store.py", "#completionLease <= :now", "#completionLease < :now", "lease: a moment too late"),
    ("aws/store.py", '"#completion = :pending AND #completionClaim = :holder"', '"(#completion = :pending OR attribute_exists(#kind)) AND #completionClaim = :holder"', "completion: a mark upon a mark"),
    ("aws/store.py", '"#completion = :pending AND #completionClaim = :holder"', '"#completion = :pending AND (#completionClaim = :holder OR attribute_exists(#kind))"', "completion: a mark without the lease"),
    ("aws/store.py", '"ConditionExpression": condition,', '"ConditionExpression": f"({condition}) OR attribute_not_exists(#{min(used)})",', "any: upon a run that is not there"),
    # store: the recognisers of one's own write
    ("aws/store.py", "        if standing is None:\n            raise Refused(None) from error\n        return standing", "        raise Refused(standing) from error", "create: its own put is not seen"),
    ("aws/store.py", 'mine=lambda now: now.claim == claim and now.kind == "running"', "mine=lambda now: False", "claim: its own write is not seen"),
    ("aws/store.py", 'mine=lambda now: now.claim == claim and now.kind == "running"', "mine=lambda now: True", "claim: every write is its own"),
    ("aws/store.py", 'now.claim == claim and now.kind == "running"', "now.claim == claim", "claim: its own, though lost since"),
    ("aws/store.py", "            now.ended\n            and (now.claim", "            False\n            and (now.claim", "finish: its own write is not seen"),
    ("aws/store.py", "            now.ended\n            and (now.claim", "            True\n            or (now.claim", "finish: every write is its own"),
    ("aws/store.py", "            now.ended\n            and (now.claim", "            (now.claim", "finish: its own, though it has not ended"),
    ("aws/store.py", "(now.claim, now.result, now.finished_at) == (run.claim, finish.result, finished_at)", "(now.result, now.finished_at) == (finish.result, finished_at)", "finish: another claim's is its own"),
    ("aws/store.py", "(now.claim, now.result, now.finished_at) == (run.claim, finish.result, finished_at)", "(now.claim, now.finished_at) == (run.claim, finished_at)", "finish: another result is its own"),
    ("aws/store.py", "(now.claim, now.result, now.finished_at) == (run.claim, finish.result, finished_at)", "(now.claim, now.result) == (run.claim, finish.result)", "finish: another moment's is its own"),
    ("aws/store.py", "(now.return_value, now.error) == (finish.return_value, finish.error)", "now.error == finish.error", "finish: another value is its own"),
    ("aws/store.py", "(now.return_value, now.error) == (finish.return_value, finish.error)", "now.return_value == finish.return_value", "finish: another error is its own"),
    ("aws/store.py", '            (now.kind, now.claim, now.retries, now.due, now.execution)\n            ==', '            now is None\n            ==', "reschedule: its own write is not seen"),
    ("aws/store.py", '            (now.kind, now.claim, now.retries, now.due, now.execution)\n            ==', '            now is not None\n            or (now.kind, now.claim, now.retries, now.due, now.execution) ==', "reschedule: every write is its own"),
    ("aws/store.py", '== ("scheduled", run.claim, retries, to.due, execution)', '== (now.kind, run.claim, retries, to.due, execution)', "reschedule: its own in another state"),
    ("aws/store.py", '== ("scheduled", run.claim, retries, to.due, execution)', '== ("scheduled", now.claim, retries, to.due, execution)', "reschedule: another claim's is its own"),
    ("aws/store.py", '== ("scheduled", run.claim, retries, to.due, execution)', '== ("scheduled", run.claim, now.retries, to.due, execution)', "reschedule: another retry is its own"),
    ("aws/store.py", '== ("scheduled", run.claim, retries, to.due, execution)', '== ("scheduled", run.claim, retries, now.due, execution)', "reschedule: another due is its own"),
    ("aws/store.py", '== ("scheduled", run.claim, retries, to.due, execution)', '== ("scheduled", run.claim, retries, to.due, now.execution)', "reschedule: another execution's is its own"),
    ("aws/store.py", 'now.kind == "canceled" and now.finished_at == finished_at', "False", "cancel: its own write is not seen"),
    ("aws/store.py", 'now.kind == "canceled" and now.finished_at == finished_at', "True", "cancel: every write is its own"),
    ("aws/store.py", 'now.kind == "canceled" and now.finished_at == finished_at', 'now.kind == "canceled"', "cancel: another's is its own"),
    ("aws/store.py", 'now.kind == "canceled" and now.finished_at == finished_at', "now.finished_at == finished_at", "cancel: a finish is its own"),
    ("aws/store.py", 'mine=lambda now: now.kind == "running" and now.cancel_requested', "mine=lambda now: False", "ask to cancel: its own write is not seen"),
    ("aws/store.py", 'mine=lambda now: now.kind == "running" and now.cancel_requested', "mine=lambda now: True", "ask to cancel: every write is its own"),
    ("aws/store.py", 'now.kind == "running" and now.cancel_requested', "now.cancel_requested", "ask to cancel: its own, though it ended"),
    ("aws/store.py", 'now.completion == "pending" and now.completion_claim == claim', "False", "lease: its own write is not seen"),
    ("aws/store.py", 'now.completion == "pending" and now.completion_claim == claim', "True", "lease: every write is its own"),
    ("aws/store.py", 'now.completion == "pending" and now.completion_claim == claim', "now.completion_claim == claim", "lease: its own, though done"),
    # (retry completion: a repetition meets its own condition again, so nothing has to be seen)
    ("aws/store.py", "== (run.completion_claim, at_ms, error)", "or True", "retry completion: every write is its own"),
    ("aws/store.py", "== (run.completion_claim, at_ms, error)", "== (now.completion_claim, at_ms, error)", "retry completion: another's is its own"),
    ("aws/store.py", "lambda now: (now.completion, now.completion_claim) == (completion, run.completion_claim)", "lambda now: False", "complete, park: its own write is not seen"),
    ("aws/store.py", "lambda now: (now.completion, now.completion_claim) == (completion, run.completion_claim)", "lambda now: True", "complete, park: every write is its own"),
    ("aws/store.py", "lambda now: (now.completion, now.completion_claim) == (completion, run.completion_claim)", "lambda now: now.completion == completion", "complete, park: another's is its own"),
    ("aws/store.py", "lambda now: (now.completion, now.completion_claim) == (completion, run.completion_claim)", "lambda now: now.completion_claim == run.completion_claim", "complete, park: the other mark is its own"),
    # store: what a transition changes
    ("aws/store.py", "None if run is None or run.expired(clock.now_ms()) else run", "run", "read: forgotten runs"),
    ("aws/store.py", 'remove=("lease", *_answers_none(execution), *_nothing_left(run)),', "remove=(*_answers_none(execution), *_nothing_left(run)),", "finish: the lease stays"),
    ("aws/store.py", '"finished_at": finished_at,\n            "execution": execution,', '"finished_at": finished_at,', "finish: the execution that is answered is not noted"),
    ("aws/store.py", 'return () if run.on_complete else ("open",)', 'return ("open",)', "finish: a pending completion leaves the open index"),
    ("aws/store.py", 'return () if run.on_complete else ("open",)', "return ()", "finish: nothing leaves the open index"),
    ("aws/store.py", '{"completion": "pending"} if run.on_complete else {"expires_at": expires_at}', '{"completion": "pending", "expires_at": expires_at} if run.on_complete else {"expires_at": expires_at}', "finish: retention starts before the completion"),
    ("aws/store.py", 'return ("execution",) if execution is None else ()', "return ()", "finish, reschedule: a gone execution stays on the item"),
    ("aws/store.py", 'remove=("completion_lease", "completion_error", "open"),', 'remove=("completion_lease", "completion_error"),', "complete: stays in the open index"),
    ("aws/store.py", '        count="completion_tries",', '        count=None,', "lease: tries are not counted"),
    ("aws/store.py", "                *writes,\n", "", "complete: the handler's writes are forgotten"),
    ("aws/store.py", '        if mark["Code"] != "ConditionalCheckFailed":\n            raise HandlerWritesRefused(str(error)) from error\n', "", "complete: the handler's condition is taken for the mark's"),
    # message: each line of the table
    ("core/message.py", "if run is None or run.ended:", "if run is None:", "judge: an ended run is no end"),
    ("core/message.py", "if run.due != message.due:", "if False:", "judge: any due will do"),
    ("core/message.py", 'if run.kind == "scheduled" and message.token is not None:', "if False:", "judge: a lost answer is not repeated"),
    ("core/message.py", 'if run.kind == "scheduled" and message.token is not None:', "if message.token is not None:", "judge: every stale token is told to retry"),
    ("core/message.py", 'if run.kind == "scheduled" and message.token is not None:', 'if run.kind == "scheduled":', "judge: a retry is repeated to no token"),
    ("core/message.py", 'return Verdict.BACK if now_ms < (run.lease or 0) else Verdict.LOSE', "return Verdict.LOSE", "judge: a living worker is lost"),
    ("core/message.py", 'return Verdict.BACK if now_ms < (run.lease or 0) else Verdict.LOSE', "return Verdict.BACK", "judge: a dead worker is never lost"),
    ("core/message.py", "now_ms < (run.lease or 0)", "now_ms <= (run.lease or 0)", "judge: lost a moment late"),
    ("core/message.py", 'if run.kind == "running":\n', "if False:\n", "judge: a running run is claimed"),
    ("core/message.py", "if message.token is None and now_ms < message.due:", "if False:", "judge: an early message claims"),
    ("core/message.py", "if message.token is None and now_ms < message.due:", "if now_ms < message.due:", "judge: the run's own timer is held up"),
    ("core/message.py", "now_ms < message.due:", "now_ms <= message.due:", "judge: a message that is just due comes back"),
    ("core/message.py", "if handed_over not in ({str}, {type(None)}):", "if False:", "read: a token without its execution"),
    ("core/message.py", "if type(version) is not int or", "if not isinstance(version, int) or", "read: a version that is true"),
    ("core/message.py", 'not 1 <= version <= VERSION', "version < 1", "read: a newer version"),
    # attempt
    ("verbs/attempt.py", "        if verdict is Verdict.BACK:\n            return _back(run, now)\n", "        if verdict is Verdict.BACK:\n            return None\n", "attempt: what should come back is acknowledged"),
    ("verbs/attempt.py", "until = 0 if run is None else run.lease or run.due", "until = 0", "attempt: comes back at once, again and again"),
    ("verbs/attempt.py", "return max(1, (until - now_ms) / 1000)", "return (until - now_ms) / 1000", "attempt: comes back within a second"),
    ("verbs/attempt.py", "lease = clock.now_ms() + remaining_ms()", "lease = clock.now_ms()", "attempt: claims without a lease"),
    ("verbs/attempt.py", "lease = clock.now_ms() + remaining_ms()", "lease = now + remaining_ms()", "attempt: the lease is over before its worker"),
    ("verbs/complete.py", "        now = clock.now_ms()  # That took its time.\n", "", "complete: the lease is over before its handler"),
    ("verbs/attempt.py", "except store.Refused as refused:  # It moved", "except ZeroDivisionError as refused:  # It moved", "attempt: does not judge again"),
    ("verbs/attempt.py", "_settle(run, Failure(LOST), message)", "_settle(run, Failure(LOST, retryable=False), message)", "attempt: a lost worker ends its run"),
    ("verbs/attempt.py", '    if verdict is Verdict.STALE:\n        logs.log("message-stale", run)\n', "", "drop: stale messages are not counted"),
    ("verbs/attempt.py", "    if message.token is None:\n        return\n", "    return\n", "drop: no token is answered"),
    ("verbs/attempt.py", "if verdict is Verdict.AGAIN and run is not None:", "if False:", "drop: a waiting execution ends instead of retrying"),
    ("verbs/attempt.py", "        retrier.answer_retry(message.token, run.due)\n", "        retrier.answer_retry(message.token, message.due)\n", "drop: the retry repeats the old due"),
    ("verbs/attempt.py", "        retrier.answer_ended(message.token, run)\n\n", "        pass\n\n", "drop: an ended run's token stays open"),
    ("verbs/attempt.py", "if run.retries == 0:", "if True:", "perform: every attempt is a start"),
    ("verbs/attempt.py", "min(pool_limit_ms, remaining_ms() - MARGIN_MS)", "pool_limit_ms", "perform: the watchdog forgets the function's deadline"),
    ("verbs/attempt.py", "remaining_ms() - MARGIN_MS)", "remaining_ms())", "perform: the watchdog keeps no margin"),
    ("verbs/attempt.py", "limit_ms = max(0, min(pool_limit_ms, remaining_ms() - MARGIN_MS))", "limit_ms = max(0, remaining_ms() - MARGIN_MS)", "perform: the pool's limit is forgotten"),
    ("verbs/attempt.py", "                os._exit(1)\n", "                pass\n", "watchdog: the process goes on"),
    ("verbs/attempt.py", "                _settle(run, Failure(error), message)\n            finally", "                pass\n            finally", "watchdog: writes nothing"),
    ("verbs/attempt.py", "            finally:\n                os._exit(1)", "            except ZeroDivisionError:\n                pass\n            else:\n                os._exit(1)", "watchdog: the process goes on if the write fails"),
    ("verbs/attempt.py", "        watchdog.cancel()\n", "        pass\n", "watchdog: ends a process whose action is done"),
    ("verbs/attempt.py", "    if not written.acquire(blocking=False):\n        threading.Event().wait()", "    if not written.acquire(blocking=False):\n        return", "watchdog: the slot is given back while the process ends"),
    ("verbs/attempt.py", "return Failure(message_of(error), retryable=False)", "return Failure(message_of(error))", "call: a non-retryable error is retried"),
    ("verbs/attempt.py", "except BaseException as error:  # SystemExit", "except Exception as error:  # SystemExit", "call: SystemExit ends the consumer"),
    ("verbs/attempt.py", "            value = asyncio.run(value)\n", "            value.close()\n", "call: an async action is not awaited"),
    ("verbs/attempt.py", "allow_nan=False, ", "", "returned: NaN is JSON"),
    ("verbs/attempt.py", 'size = len((outcome.return_value or "").encode())', 'size = len(outcome.return_value or "")', "carried: characters instead of bytes"),
    ("verbs/attempt.py", "    if size > MAX_RESULT_BYTES:", "    if size >= MAX_RESULT_BYTES:", "carried: the largest value is too large"),
    ("verbs/attempt.py", "    except PayloadLost as gone:\n        return gone\n", "    except PayloadLost as gone:\n        raise PayloadUnavailable(str(gone)) from gone\n", "args: a missing object is waited for"),
    ("verbs/attempt.py", 'Failure(f"the arguments are lost: {args}", retryable=False)', 'Failure(f"the arguments are lost: {args}")', "args: a missing object is retried"),
    ("verbs/attempt.py", "    except clients.AWSError as error:\n        return Failure(", "    except ZeroDivisionError as error:\n        return Failure(", "carried: a value that is not taken is no failure"),
    ("verbs/attempt.py", "to, execution=message.execution, attempts", "to, execution=None, attempts", "settle: the waiting execution is not noted"),
    ("verbs/attempt.py", 'if standing is None or standing.kind != "running" or standing.claim != claim:', 'if standing is None or standing.kind != "running":', "settle: writes for another claim, for ever"),
    ("verbs/attempt.py", 'if standing is None or standing.kind != "running" or standing.claim != claim:', "if True:", "settle: a request to cancel is not decided upon"),
    ("verbs/attempt.py", "            retrier.answer_retry(message.token, settled.due)", "            pass", "settle: the retry is not answered"),
    ("verbs/attempt.py", "            retrier.answer_ended(message.token, settled)", "            pass", "settle: the end is not answered"),
    ("verbs/attempt.py", "random.uniform(0.5, 1.5)", "random.uniform(1, 1)", "settle: no jitter"),
    # retry and clock
    ("core/retry.py", "    if run.cancel_requested:\n", "    if False:\n", "decide: a failure beats a cancel"),
    ("core/retry.py", "if not outcome.retryable or run.retries", "if run.retries", "decide: non-retryable is retried"),
    ("core/retry.py", "run.retries >= policy.max_retries", "run.retries > policy.max_retries", "decide: one retry too many"),
    ("core/retry.py", "retry=run.retries + 1", "retry=run.retries + 2", "decide: the backoff of the next retry"),
    ("core/retry.py", "next_due(now_ms + delay, after=run.due)", "next_due(now_ms + delay, after=0)", "decide: a due not later than the last"),
    ("core/retry.py", "    if log >= math.log(MAX_BACKOFF_MS):\n        return MAX_BACKOFF_MS\n", "", "backoff: no cap, and an overflow"),
    ("core/retry.py", "+ math.log(u)", "", "backoff: the cap forgets the jitter"),
    ("core/retry.py", "ceil_to_second(after + 1))", "ceil_to_second(after))", "due: the same as the last"),
    ("core/retry.py", "error[:MAX_ERROR_CHARACTERS]", "error", "error: not cut"),
    ("core/clock.py", "return -int(-ms // 1000) * 1000", "return int(ms // 1000) * 1000", "clock: rounds down"),
    # relay: each row of the table
    ("verbs/relay.py", "if old is None or old.enqueued_at != new.enqueued_at:", "if old is None:", "relay: a reused key is no creation"),
    ("verbs/relay.py", "(new is None or old.enqueued_at != new.enqueued_at):", "new is None:", "relay: objects of an overwritten run stay"),
    ("verbs/relay.py", "(new is None or old.enqueued_at != new.enqueued_at):", "(new is None or old.kind != new.kind):", "relay: objects go before their run is forgotten"),
    ("verbs/relay.py", "    payloads.delete(hints.delete)\n", "", "relay: objects of a forgotten run stay"),
    ("verbs/relay.py", "                self.deliver.append(new)\n", "                pass\n", "relay: a new run is not delivered"),
    ("verbs/relay.py", '            elif new.kind == "scheduled":\n                self.start.append(new)\n', "", "relay: a run of later is not started"),
    ("verbs/relay.py", "        elif unanswered:\n            self.start.append(new)\n", "", "relay: a first retry has no timer"),
    ("verbs/relay.py", " and new.execution is None\n", "\n", "relay: a second timer for each retry"),
    ("verbs/relay.py", 'unanswered = old.kind == "running" and', "unanswered = True and", "relay: any write to a waiting run starts it"),
    ("verbs/relay.py", "if old.ended or old.kind == new.kind:", "if False:", "relay: every write is a change of state"),
    ("verbs/relay.py", "if old.ended or old.kind == new.kind:", "if old.kind == new.kind:", "relay: an ended run ends again"),
    ("verbs/relay.py", "            self.announce.append(new)\n", "            pass\n", "relay: no run is announced"),
    ("verbs/relay.py", ' or (new.ended and old.kind == "scheduled"):', ":", "relay: a canceled run's execution goes on"),
    ("verbs/relay.py", '(new.ended and old.kind == "scheduled")', "new.ended", "relay: stops executions of running runs"),
    ("verbs/relay.py", "(unanswered and old.timed) or ", "", "relay: an execution nobody answers goes on"),
    ("verbs/relay.py", "(unanswered and old.timed)", "unanswered", "relay: stops what never waited"),
    ("verbs/relay.py", "self.stop.append(old)", "self.stop.append(new)", "relay: stops by the state after"),
    ("verbs/relay.py", "        queues.relay_later([run.key for run in undone])\n", "        pass\n", "relay: what is refused is forgotten"),
    ("verbs/relay.py", "undone += _each(retrier.start, hints.start)", "_each(retrier.start, hints.start)", "relay: a throttled start is forgotten"),
    ("verbs/relay.py", "    _each(retrier.stop, hints.stop)", "    undone += _each(retrier.stop, hints.stop)", "relay: a stop that failed comes again"),
    ("verbs/relay.py", "strict=True) if not done]", "strict=True) if done]", "relay: the wrong ones come again"),
    # look: each row of the table
    ("verbs/look.py", 'if run.kind == "scheduled" and now_ms < run.due:', "if False:", "look: a waiting run is delivered early"),
    ("verbs/look.py", "now_ms < run.due:", "now_ms <= run.due:", "look: a run that is just due is started"),
    ("verbs/look.py", "        found.start.append(run)\n", "        pass\n", "look: a waiting run gets no timer"),
    ("verbs/look.py", 'if run.completion == "pending":', "if True:", "look: a completion that is done is announced"),
    ("verbs/look.py", "            found.announce.append(run)\n", "            pass\n", "look: a pending completion is forgotten"),
    ("verbs/look.py", 'elif run.kind != "running" or now_ms >= (run.lease or 0):', 'elif run.kind != "running":', "look: a dead worker is left"),
    ("verbs/look.py", 'elif run.kind != "running" or now_ms >= (run.lease or 0):', "else:", "look: a living worker is disturbed"),
    ("verbs/look.py", "now_ms >= (run.lease or 0)", "now_ms > (run.lease or 0)", "look: a dead worker a moment late"),
    ("verbs/look.py", "        found.deliver.append(run)\n", "        pass\n", "look: nothing is delivered"),
    ("verbs/look.py", "raise RuntimeError", "raise SystemExit", "look: a refused hint ends the process"),
    # queues, bus, retrier: what AWS refuses
    ("aws/queues.py", "        except clients.AWSError:\n            refused += positions", "        except clients.AWSError:\n            pass", "queues: a refused request is forgotten"),
    ("aws/queues.py", 'refused += [int(entry["Id"]) for entry in answer.get("Failed", [])]', "pass", "queues: a refused entry is forgotten"),
    ("aws/queues.py", "    if refused:\n        raise RuntimeError", "    if False:\n        raise RuntimeError", "queues: the retry queue's refusal is forgotten"),
    ("aws/queues.py", '        options["MessageGroupId"] = run.fairness_key\n', "        pass\n", "queues: no fairness"),
    ("aws/bus.py", "            refused += batch\n", "            pass\n", "bus: a refused request is forgotten"),
    ("aws/bus.py", 'if "ErrorCode" in entry', "if False", "bus: a refused entry is forgotten"),
    ("aws/retrier.py", '!= "ExecutionAlreadyExists"', '!= "Nothing"', "retrier: a second start is an error"),
    ("aws/retrier.py", 'not in _ENDED', 'not in ()', "retrier: a stop of nothing is an error"),
    ("aws/retrier.py", "        if error.response[\"Error\"][\"Code\"] not in _CLOSED:\n            raise", "        pass", "retrier: an answer that was not taken is forgotten"),
    ("aws/retrier.py", '"TaskTimedOut", ', "", "retrier: a closed token is an error"),
    ("aws/retrier.py", '"TaskDoesNotExist", ', "", "retrier: a gone token is an error"),
    ("aws/retrier.py", '"group": run.fairness_key or run.run_id', '"group": run.run_id', "retrier: no fairness"),
    # complete
    ("verbs/complete.py", 'if run is None or run.completion != "pending":', "if run is None:", "complete: calls a handler that is done"),
    ("verbs/complete.py", "if run.completion_lease is not None and now < run.completion_lease:", "if False:", "complete: does not wait for the lease"),
    ("verbs/complete.py", 'return 1 if standing is not None and standing.completion == "pending" else None', "return None", "complete: a lost lease is dropped"),
    ("verbs/complete.py", 'return 1 if standing is not None and standing.completion == "pending" else None', "return 1", "complete: a done one comes again"),
    ("verbs/complete.py", "    except store.Refused:\n        raise\n", "", "complete: a lost lease counts as a failure"),
    ("verbs/complete.py", "except BaseException as error:", "except Exception as error:", "complete: SystemExit ends the batch"),
    ("verbs/complete.py", "len(value) > MAX_WRITES", "len(value) > 99", "complete: more writes than a transaction takes"),
    ("verbs/complete.py", "run.completion_tries >= MAX_TRIES", "run.completion_tries > MAX_TRIES", "complete: one try too many"),
    ("verbs/complete.py", "2 ** (tries - 1), 900)", "2 ** tries, 900)", "complete: the delays start at two seconds"),
    ("verbs/complete.py", "2 ** (tries - 1), 900)", "2 ** (tries - 1), 10**9)", "complete: delays without a bound"),
    ("verbs/complete.py", "at_ms=clock.now_ms() + delay * 1000", "at_ms=clock.now_ms()", "complete: no delay on the item"),
    ("verbs/complete.py", "        value = asyncio.run(value)\n", "        value.close()\n", "complete: an async handler is not awaited"),
    ("verbs/complete.py", "if leased.completion_tries > MAX_TRIES:", "if False:", "complete: a handler that kills its process is called for ever"),
    # sweep
    ("verbs/sweep.py", "if at is None or now < at:", "if at is None:", "sweep: does not wait until a run is overdue"),
    ("verbs/sweep.py", "overdue_ms * 2**run.hints", "overdue_ms", "sweep: as often each time"),
    ("verbs/sweep.py", "if run.hinted_at is None or run.hinted_at < since:", "if run.hinted_at is None:", "sweep: a new wait begins where the last one ended"),
    ("verbs/sweep.py", "        return False\n    return True", "        return True\n    return True", "sweep: two sweepers repeat the same hint"),
    ("verbs/sweep.py", "    open_runs.save_sweeper_cursor(cursor)\n", "", "sweep: begins anew each time"),
    ("verbs/sweep.py", "cursor is None or remaining_ms() < RESERVE_MS", "cursor is None", "sweep: walks on until it is killed"),
    ("aws/store.py", 'f"#kind = :kind AND #due = :due AND {seen}"', 'f"(#kind = :kind OR attribute_exists(#kind)) AND #due = :due AND {seen}"', "note hint: though the run began"),
    ("aws/store.py", 'f"#kind = :kind AND #due = :due AND {seen}"', 'f"#kind = :kind AND (#due = :due OR attribute_exists(#kind)) AND {seen}"', "note hint: though the run waits anew"),
    ("aws/store.py", 'f"#kind = :kind AND #due = :due AND {seen}"', 'f"#kind = :kind AND #due = :due AND ({seen} OR attribute_exists(#kind))"', "note hint: though another noted it"),
    # cancel, submit, status, dead letters
    ("verbs/cancel.py", "run = refused.run", "return shown(run, run_id)", "cancel: does not look again"),
    ("verbs/cancel.py", " and not run.cancel_requested:", ":", "cancel: asks for ever"),
    ("verbs/cancel.py", 'if run.kind == "running":', "if False:", "cancel: interrupts what runs"),
    # payloads, and what they ask of others
    ("aws/payloads.py", "if text is not None and len(text.encode()) > REQUEST_BYTES", "if text is not None and len(text) > REQUEST_BYTES", "payloads: characters instead of bytes"),
    ("aws/payloads.py", "if text is not None and len(text.encode()) > REQUEST_BYTES", "if text is not None and len(text.encode()) >= REQUEST_BYTES", "payloads: an object for what fits"),
    ("aws/payloads.py", "if len(value) <= RESULT_BYTES:", "if len(value) < RESULT_BYTES:", "payloads: an object for a value that fits"),
    ("aws/payloads.py", "    writer = uuid4().hex\n", '    writer = run.request or "w"\n', "payloads: two submits write the same name"),
    ("aws/payloads.py", 'f"{run.claim}-result"', '"result"', "payloads: two attempts write the same name"),
    ("aws/payloads.py", 'changes: dict[str, Any] = {"large": "yes"}', "changes: dict[str, Any] = {}", "payloads: the relay does not hear of the removal"),
    ("aws/payloads.py", 'error.response["Error"]["Code"] == "NoSuchKey":', "True:", "payloads: what is denied is gone"),
    ("aws/payloads.py", 'error.response["Error"]["Code"] == "NoSuchKey":', "False:", "payloads: what is missing is waited for"),
    ("aws/payloads.py", 'f"{pool}#{run_id}" if separator and another and "/" not in file else None', 'f"{pool}#{run_id}"', "payloads: any object is a run's"),
    ("aws/store.py", "            and now.return_value_at == finish.return_value_at\n", "", "finish: another object is its own"),
    ("aws/store.py", '"large": "yes" if finish.return_value_at is not None else None,', '"large": None,', "finish: the relay does not hear of the removal"),
    ("verbs/submit.py", "standing = seen or store.create(", "standing = store.create(", "submit: a key that was seen writes objects"),
    ("verbs/orphans.py", "    elif not after and now < begins_at:\n        return 0\n", "", "orphans: a walk at each sweep"),
    ("verbs/orphans.py", "elif not after and now < begins_at:", "elif now < begins_at:", "orphans: a walk that ran out of time waits for a day"),
    ("verbs/orphans.py", "if it.at_ms <= before)", ")", "orphans: what is being written is collected"),
    ("verbs/orphans.py", 'after = page[-1].name if len(page) == payloads.PAGE else ""', 'after = ""', "orphans: the first page alone"),
    ("verbs/orphans.py", "        if len(runs) < len(found):", "        if False:", "orphans: objects of an unreadable item are collected"),
    ("verbs/orphans.py", "if name not in named)", ")", "orphans: what is named is collected"),
    ("verbs/status.py", "(run.return_value_bytes or 0) > MAX_SHOWN_BYTES", "(run.return_value_bytes or 0) >= MAX_SHOWN_BYTES", "status: a URL for 32 KB"),
    ("verbs/status.py", " and size + its > MAX_ANSWER_BYTES:", " and its > MAX_ANSWER_BYTES:", "status: more than an answer takes"),
    ("verbs/complete.py", "        if isinstance(told, PayloadLost):\n", "        if False:\n", "complete: a handler is told of nothing"),
    ("verbs/submit.py", "if standing.request != run.request:", "if False:", "submit: another request with the same key"),
    ("verbs/submit.py", "standing.creation == run.creation", "True", "submit: an existing run is new"),
    ("verbs/submit.py", '        lookup.check(request.action, "action")\n', "        pass\n", "submit: unknown names are stored"),
    ("verbs/status.py", "if not (is_pool_name(pool) and is_run_id(run_id)):", "if False:", "status: reads malformed ids"),
    ("verbs/dead_letters.py", "        return False\n", "        return True\n", "dead letters: a living worker's letter is dropped"),
    ("verbs/dead_letters.py", "verdict in (Verdict.LOSE, Verdict.CLAIM):", "verdict is Verdict.LOSE:", "dead letters: a waiting run's letter is dropped"),
    ("verbs/dead_letters.py", "verdict in (Verdict.LOSE, Verdict.CLAIM):", "verdict is Verdict.CLAIM:", "dead letters: a dead worker's letter is dropped"),
    ("verbs/dead_letters.py", "        drop(run, message, verdict)\n", "        pass\n", "dead letters: tokens are not answered"),
    ("verbs/dead_letters.py", "    look(key)\n", "", "dead letters: nothing is looked at"),
    # run and request
    ("core/run.py", "value != field.default or field.name", "value or field.name", "run: no retries are the pool's retries"),
    ("core/run.py", "if not isinstance(values.get(name), kind):", "if False:", "run: an item that no version wrote is read"),
    ("core/run.py", "self.expires_at * 1000 <= now_ms", "self.expires_at * 1000 < now_ms", "run: forgotten a moment late"),
    ("core/run.py", 'self.execution or f"{self.run_id}-{self.enqueued_at}-{self.retries}"', 'f"{self.run_id}-{self.enqueued_at}-{self.retries}"', "run: a taken-along execution has another name"),
    ("core/run.py", "{self.run_id}-{self.enqueued_at}-", "{self.run_id}-", "run: a reused key reuses its executions' names"),
    ("core/run.py", '-{self.retries}"', '"', "run: each retry has the same execution"),
    ("core/run.py", "not 1 <= version <= VERSION:", "version < 1:", "run: a newer version is read"),
    ("core/request.py", "due=ceil_to_second(at) if later else now_ms", "due=at if later else now_ms", "request: a start between seconds"),
    ("core/request.py", "later = at > now_ms", "later = at >= now_ms", "request: now is later"),
    ("core/request.py", "if at - now_ms > MAX_AHEAD_MS:", "if False:", "request: a start in two years"),
    ("core/request.py", 'sha256(f"{pool}\\0{key}".encode())', 'sha256(f"{key}".encode())', "request: a key of every pool"),
    ("core/request.py", "creation=uuid4().hex if keyed else None", "creation=None", "request: creations look alike"),
    ("core/request.py", "sort_keys=True, ", "", "request: the order of fields makes another request"),
    ("core/request.py", "for _ in range(MAX_DEPTH):", "for _ in range(MAX_DEPTH + 1):", "request: one deeper than allowed"),
    ("core/request.py", "for _ in range(MAX_DEPTH):", "for _ in range(MAX_DEPTH - 1):", "request: not as deep as allowed"),
    ("core/request.py", "    if size > MAX_BODY_BYTES:", "    if size >= MAX_BODY_BYTES:", "request: the largest body is too large"),
    ("core/request.py", "            if size > MAX_ITEM_PAYLOAD_BYTES:", "            if size >= MAX_ITEM_PAYLOAD_BYTES:", "request: a transaction's largest is too large"),
    ("core/request.py", "parse_constant=_no_constant", "parse_constant=float", "request: NaN is JSON"),
]]
# fmt: on


def copy_of_the_tree(to: Path) -> Path:
    left_out = shutil.ignore_patterns("__pycache__", "test_behaviour.py")  # That is about docs.
    for part in ("functions", "tests/unit", "tests/integration"):
        shutil.copytree(ROOT / part, to / part, ignore=left_out)
    for part in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / part, to / part)
    return to


def own_tests(file: str) -> list[str]:
    """The tests that are most likely to notice: tried first, since they are quick."""
    elsewhere = {"look": "hints", "relay": "hints", "status": "cancel", "orphans": "payloads"}
    name = elsewhere.get(Path(file).stem, Path(file).stem) + ".py"
    own = [f"{part}/test_{name}" for part in ALL if (ROOT / part / f"test_{name}").is_file()]
    return list(dict.fromkeys([*own, "tests/integration/test_payloads.py"]))


def failures(tree: Path, tests: Sequence[str], *options: str) -> list[str]:
    """The tests that fail there."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", *tests, *options]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=SLOWEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return ["(the tests did not end)"]
    test = r"^(?:FAILED|ERROR) (\S+?\.py(?:::\w+(?:\[.*?\])?)?)(?: - .*)?$"
    found = re.findall(test, done.stdout, re.MULTILINE)
    if not found and done.returncode:
        return [f"(pytest ended with {done.returncode}) {done.stdout[-300:]}"]
    return found


def main(words: list[str]) -> int:
    chosen = [
        it for it in MUTATIONS if not words or any(word in it.breaks + it.file for word in words)
    ]
    with tempfile.TemporaryDirectory(prefix="mutations-") as scratch:
        base = copy_of_the_tree(Path(scratch) / "base")
        already = failures(base, ALL)
        for test in already:
            print(f"fails without a mutation, left out: {test}", flush=True)
        left_out = [f"--deselect={test}" for test in already]

        def found_by(numbered: tuple[int, Mutation]) -> str | None:
            number, mutation = numbered
            tree = shutil.copytree(base, Path(scratch) / str(number))
            file = tree / "functions" / "workpool" / mutation.file
            text = file.read_text()
            if text.count(mutation.old) != 1:
                found = None
                note = f"stale: {mutation.old!r} stands {text.count(mutation.old)} times there"
            else:
                file.write_text(text.replace(mutation.old, mutation.new))
                own = own_tests(mutation.file)
                failed = failures(tree, own, "-x", *left_out) if own else []
                failed = failed or failures(tree, ALL, "-x", *left_out)
                found = failed[0] if failed else None
                note = found or "SURVIVES"
            shutil.rmtree(tree)
            print(f"{mutation.file:<16} {mutation.breaks:<62} | {note}", flush=True)
            return found

        with ThreadPoolExecutor(AT_ONCE) as threads:
            results = list(threads.map(found_by, enumerate(chosen)))
    missed = results.count(None)
    print(f"{len(results) - missed} of {len(results)} mutations found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
