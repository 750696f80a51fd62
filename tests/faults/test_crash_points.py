"""`make crash`: a worker dies once at every await it can be led to; nothing is lost, doubled or overspent.

CRASH_PASSED names a file of points at which an earlier run has died: only the others are died at then.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vision_app.lab.soak.crash import crash_everywhere
from vision_app.stack.client import running_stack

PASSED = Path(file).read_text("utf-8").split() if (file := os.environ.get("CRASH_PASSED")) else []
UNREACHED = {
    "agents.budget:LedgerLoader._reload_unfinished#1": "after Kafka lost tasks that wait; then `vision posts --stuck`",
    "agents.budget:LedgerLoader._reload_unfinished#2": "the same; what it sends, the core checks again",
    "agents.budget:LedgerLoader._reload_unfinished.question#1": "the same; reads",
    "bridges.backlog:_unread#3": "reads, for a metric, where Redis does not count",
    "bridges.redis_in:RedisIn._relay_entry#1": "an entry set aside by hand is buried, as an unreadable one",
    "vision_app.analysis.analyst:Analyst._ask_anew#1": "a pause, when an unusable grant comes a second time",
    "vision_app.analysis.analyst:Analyst._call#2": "a picture larger than it was at its preflight; nothing was sent",
    "vision_app.streams.batches:Batches._handle#1": "a record that an operator has set aside is buried, as in #2",
    "vision_app.streams.batches:Batches._try_until_handled#4": "the pause between two tries after such a failure",
    "vision_app.analysis.caller:ProviderCaller._begin#3": "S3 took over five seconds for a record; nothing was sent",
    "vision_app.analysis.caller:ProviderCaller._begin#4": "the same, the record withdrawn",
    "agents.posts:posts_agent.sweep#1": "every ten minutes; what it sends, the core checks again",
    "agents.sinks:_announce#2": "a reduced announcement, which no post of these rounds needs; the whole was refused",
    "bridges.backlog:_unread#2": "reads, for a metric",
    "bridges.redis_in:RedisIn._relay_or_bury#2": "an entry that an error of our own keeps from being relayed is buried",
    "bridges.redis_in:RedisIn._count_trimmed_unclaimed#1": "reads, when two workers claim the same entries at once",
    "bridges.redis_in:RedisIn._read#1": "a pause, while ten thousand entries are held",
    "bridges.redis_in:RedisIn._relay_watched#2": "an entry set aside by hand while it is relayed: the same, once more",
    "bridges.redis_in:RedisIn._with_content#1": "reads again what was not held, beyond 32 MiB of entries",
    "bridges.redis_in:RedisIn._with_content#2": "acknowledges what was trimmed of that, as elsewhere",
    "vision_app.providers.gate:Gate._cancel_wait#2": "a slot given in the moment of leaving is given back; it expires",
    "vision_app.providers.gigachat:GigaChat._delete#2": "looks for a file whose upload nobody answered; costs nothing",
    "vision_app.providers.gigachat:GigaChat.close#1": "the last deletions of files at the provider; cost nothing",
    "vision_app.providers.gigachat:GigaChat.sign_in#1": "`vision doctor` calls it, no worker",
    "vision_app.providers.slots:Slots._try#2": "a slot asked for in the moment of leaving is given back; it expires",
    "vision_app.providers.slots:Slots.close#2": "slots held at the end are given back; they expire",
    "vision_app.streams.batches:Batches._handle_alone#1": "after three failures that nobody planned for; as _handle",
    "vision_app.streams.batches:Batches._handle_alone#2": "the same, the dead letter",
    "vision_app.streams.batches:Batches._try_until_handled#2": "the same",
    "vision_app.streams.batches:Batches._try_until_handled#3": "a pause, when a batch was left in the middle",
    "vision_app.streams.batches:Batches._try_until_handled#5": "the same, during the pause between two tries",
    "vision_app.streams.dead_letters:DeadLetters._send_companion#2": "a smaller form, since the first was refused",
    "vision_app.streams.dead_letters:DeadLetters._send_letter#4": "the smallest form, which no entry here needs",
    "vision_app.streams.in_flight:InFlight._end_process_if_ours#1": "waits for a rebalance to end; does nothing",
    "vision_app.streams.ownership:becomes_ours#1": "a pause, before anything is done for an event",
    "vision_app.streams.set_aside:Marks.refresh#2": "forgets marks of forty days ago",
    "vision_app.streams.set_aside:mark#1": "`vision dlq take` calls it, no worker",
}
"""Points that a run need not reach: by chance it may not, or nothing outside leads there. Why a death there is no other
than one at the point before."""

pytestmark = [pytest.mark.load, pytest.mark.timeout(3 * 3600)]


async def test_a_worker_may_die_at_every_await(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()

    def tell(line: str) -> None:
        with capsys.disabled():
            print(f"{time.monotonic() - started:6.0f} s  {line}", flush=True)

    with running_stack(tmp_path) as variables:
        result = await crash_everywhere(tmp_path, f"{int(started)}", variables, tell, PASSED)
    tell(f"{len(result.deaths)} deaths in {result.rounds} rounds, {len(result.never)} points never reached:")
    for point in result.never:
        tell(f"  {point}")
    tell(f"the worker gave up {result.gave_up} times while Kafka was away")
    account = result.account
    assert account is not None
    tell(str({name: value for name, value in account.as_dict().items() if isinstance(value, int)}))
    assert result.left == ""
    assert "\n".join(result.unexplained) == ""
    assert "\n".join(account.discrepancies) == ""
    assert set(result.never) <= UNREACHED.keys()
