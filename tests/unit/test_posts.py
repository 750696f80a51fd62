"""The posts core, rule by rule, by plain calls. test_posts_properties.py has random sequences."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import AT, AT_MS, analysis, analyzed, medium, missing
from vision_app.domain.moment import Moment
from vision_app.domain.posts import (
    FORGET_AFTER_MS,
    KNOWN_FOR_MS,
    REDISPATCH_AFTER_MS,
    PostDecision,
    PostRow,
    PostRules,
    decide,
    forgettable,
    is_answered,
)
from vision_app.messages import (
    Analyzed,
    AskAgain,
    Deferred,
    Emission,
    Failed,
    Forget,
    MediaOutcome,
    MediaTask,
    Medium,
    Ocr,
    Opened,
    Outcome,
    PolicyVerdict,
    PostResult,
    Uploaded,
)

VERSION = "vision@2026-11-22#p1"
YES, NO = PolicyVerdict(analyze=True, reason="ok"), PolicyVerdict(analyze=False, reason="policy")
A, B, C = (medium(name) for name in "abc")


def deferred(days: int = 1) -> Deferred:
    return Deferred(reason="budget", retry_at=AT + timedelta(days=days))


def cached(outcome: Analyzed) -> Analyzed:
    return outcome.model_copy(update={"cached": True, "tokens_billed": 0})


class Post:
    """One post's row, kept as the shell keeps it. Every call returns the decision."""

    def __init__(self, *media: Medium, version: str = VERSION) -> None:
        self.rules = PostRules(vision_version=version)
        self.row: PostRow | None = None
        self.time_ms, self.offset = AT_MS, -1
        if media:
            self.open(*media)

    def do(self, command: Any, at: Moment | None = None) -> PostDecision:
        if at is None:
            self.time_ms, self.offset = self.time_ms + 1, self.offset + 1
            at = Moment(time_ms=self.time_ms, offset=self.offset)
        decision = decide(self.row, command, at, self.rules)
        self.row = None if decision.forget else decision.row or self.row
        return decision

    def open(
        self,
        *media: Medium,
        force: bool = False,
        replay: bool = False,
        verdicts: Sequence[PolicyVerdict] | None = None,
        trace: str = "trace",
        publication: str = "",
    ) -> PostDecision:
        event = Uploaded(
            tenant_id="t", post_id="p", trace_id=trace, occurred_at=AT, idempotency_key="k", media_files=list(media)
        )
        given = list(verdicts or [YES] * len(media))
        return self.do(Opened(event=event, verdicts=given, input_id=publication, force=force, replay=replay))

    def outcome(self, sha256: str, outcome: Outcome, dispatch: int = 1) -> PostDecision:
        return self.do(
            MediaOutcome(
                tenant_id="t", post_id="p", trace_id="trace", sha256=sha256, dispatch=dispatch, outcome=outcome
            )
        )


def tasks(decision: PostDecision) -> list[tuple[str, int]]:
    return [(task.medium.sha256, task.dispatch) for task in decision.send if isinstance(task, MediaTask)]


def results(decision: PostDecision) -> list[PostResult]:
    return [message for message in decision.send if isinstance(message, PostResult)]


def status(decision: PostDecision) -> str | None:
    found = results(decision)
    assert len(found) <= 1
    return found[0].status if found else None


def kinds(decision: PostDecision) -> list[str | None]:
    return [item.outcome.kind if item.outcome else None for item in results(decision)[0].media]


def ask_again(post: Post, *, deferred_before_ms: int = 2**62, in_work_before_ms: int = 2**62) -> PostDecision:
    return post.do(
        AskAgain(tenant_id="t", post_id="p", deferred_before_ms=deferred_before_ms, in_work_before_ms=in_work_before_ms)
    )


# --- a ledger that was lost -------------------------------------------------------------------------------------------


def test_what_is_deferred_is_asked_again_by_a_replay_and_by_no_other_publication() -> None:
    post = Post(A, B)
    post.outcome("a", analyzed())
    post.outcome("b", deferred())
    assert tasks(post.open(A, B, publication="again")) == []
    assert tasks(post.open(A, B, publication="replayed", replay=True)) == [("b", 2)]
    assert tasks(post.open(A, B, publication="replayed twice", replay=True)) == [], "it is in work"


def test_what_waited_in_a_lost_ledger_is_sent_out_anew() -> None:
    post = Post(A, B, C)
    post.outcome("a", analyzed())
    post.outcome("b", deferred())
    again = ask_again(post)
    assert (tasks(again), status(again)) == ([("b", 2), ("c", 2)], "in_work")
    assert again.observed == [("asked_again", {"media": 2})]
    assert post.row is not None
    assert post.row.completed_ms is None
    post.outcome("b", deferred(days=1), dispatch=2)
    assert status(post.outcome("c", analyzed(), dispatch=2)) == "partial", "it is announced as it is now"
    assert status(post.outcome("b", analyzed(), dispatch=2)) == "ok"


def test_what_was_sent_out_since_is_left_alone() -> None:
    """The task is on its way to the new ledger, or waits in it."""
    post = Post(A, B)
    post.outcome("a", deferred())
    assert post.row is not None
    sent_ms = post.row.media["a"].dispatched_ms
    assert tasks(ask_again(post, deferred_before_ms=sent_ms, in_work_before_ms=sent_ms)) == []
    assert tasks(ask_again(post, deferred_before_ms=sent_ms + 1, in_work_before_ms=sent_ms)) == [("a", 2)]
    assert tasks(ask_again(post, deferred_before_ms=sent_ms + 1, in_work_before_ms=sent_ms + 1)) == [("b", 2)]
    assert tasks(ask_again(post, deferred_before_ms=sent_ms + 1, in_work_before_ms=sent_ms + 1)) == []


def test_a_finished_or_unknown_post_has_nothing_to_ask_again() -> None:
    post = Post()
    assert ask_again(post).observed == [("nothing_to_ask_again", {})]
    assert post.row is None
    post.open(A)
    post.outcome("a", analyzed())
    before = post.row
    assert ask_again(post).send == []
    assert post.row is not None
    assert before is not None
    assert post.row.media == before.media
    assert post.row.completed_ms == before.completed_ms


# --- opening ----------------------------------------------------------------------------------------------------------


def test_twins_are_asked_once_and_answered_at_every_position() -> None:
    post = Post()
    opened = post.open(A, B, A)
    assert (tasks(opened), status(opened)) == ([("a", 1), ("b", 1)], "in_work")
    post.outcome("a", analyzed())
    done = post.outcome("b", missing())
    assert (kinds(done), status(done)) == (["analyzed", "skipped", "analyzed"], "partial")


def test_what_the_policy_refuses_is_skipped_with_its_reason() -> None:
    done = Post().open(A, verdicts=[NO])
    assert (tasks(done), status(done), kinds(done)) == ([], "skipped", ["skipped"])


def test_a_twin_that_may_be_looked_at_is_enough() -> None:
    for verdicts in ([NO, YES], [YES, NO]):
        assert tasks(Post().open(A, A, verdicts=verdicts)) == [("a", 1)]


def test_a_post_without_media_is_complete_at_once() -> None:
    assert status(Post().open()) == "skipped"


def test_a_post_in_work_or_all_answered_that_comes_again_is_silent() -> None:
    post = Post(A)
    again = post.open(A, trace="again")
    assert (again.send, again.observed) == ([], [("nothing_new", {})])
    post.outcome("a", analyzed())
    assert post.open(A).send == []


def answered_now(post: Post, *media: Medium, after_ms: int = 0, version: str = VERSION) -> bool:
    """Whether the post has all answers to a publication of these media."""
    event = Uploaded(
        tenant_id="t", post_id="p", trace_id="x", occurred_at=AT, idempotency_key="k", media_files=list(media)
    )
    assert post.row is not None
    return is_answered(post.row, event, post.time_ms + after_ms, PostRules(vision_version=version))


def test_a_publication_is_answered_only_if_every_picture_and_position_is() -> None:
    post = Post(A, B)
    post.outcome("a", analyzed())
    assert not answered_now(post, A, B), "one is in work"
    post.outcome("b", analyzed())
    assert answered_now(post, A, B)
    assert answered_now(post, B)
    assert answered_now(post)
    assert not answered_now(post, A, B, C), "a new picture"
    assert not answered_now(post, A, A), "a new position"


def test_a_publication_is_not_answered_by_an_older_version_or_long_ago() -> None:
    post = Post(A)
    post.outcome("a", analyzed())
    assert not answered_now(post, A, version="vision@2027-01-01#p2")
    assert answered_now(post, A, after_ms=KNOWN_FOR_MS)
    assert not answered_now(post, A, after_ms=KNOWN_FOR_MS + 1), "the row may be forgotten soon"


@pytest.mark.parametrize("ended", [missing(), Failed(reason="refused"), deferred()], ids=lambda one: one.kind)
def test_a_publication_is_not_answered_by_a_picture_without_analysis(ended: Outcome) -> None:
    post = Post(A)
    post.outcome("a", ended)
    assert not answered_now(post, A)


@pytest.mark.parametrize(("latest", "known"), [(Failed(reason="refused"), True), (deferred(), False)])
def test_an_analysis_kept_from_an_earlier_look_answers_unless_the_new_one_waits(latest: Outcome, known: bool) -> None:
    post = Post(A)
    post.outcome("a", analyzed())
    post.open(A, force=True)
    assert not answered_now(post, A)
    post.outcome("a", latest, dispatch=2)
    assert answered_now(post, A) is known


def test_a_position_listed_only_by_the_repeat_is_in_the_result() -> None:
    post = Post(A)
    post.open(A, A, trace="again")
    done = results(post.outcome("a", analyzed()))[0]
    assert len(done.media) == 2
    assert done.event.trace_id == "trace"


def test_new_media_join_those_known() -> None:
    post = Post(A, B)
    post.outcome("a", analyzed())
    post.outcome("b", missing())
    opened = post.open(B, C)
    assert tasks(opened) == [("b", 2), ("c", 1)]
    post.outcome("b", analyzed("Дом"), dispatch=2)
    done = post.outcome("c", analyzed("Лес"))
    assert [item.medium.sha256 for item in results(done)[0].media] == ["a", "b", "c"]
    assert status(done) == "ok"


@pytest.mark.parametrize("ended", [missing(), Failed(reason="refused")])
def test_skipped_and_failed_media_are_asked_again(ended: Outcome) -> None:
    post = Post(A)
    post.outcome("a", ended)
    assert tasks(post.open(A)) == [("a", 2)]


@pytest.mark.parametrize("waits", [True, False])
def test_media_in_work_or_deferred_are_asked_again_by_force_or_after_a_day(waits: bool) -> None:
    post = Post(A)
    if waits:
        post.outcome("a", deferred())
    assert tasks(post.open(A)) == []
    assert tasks(post.open(A, force=True)) == [("a", 2)]
    post.time_ms += REDISPATCH_AFTER_MS - 2
    assert tasks(post.open(A)) == []
    assert tasks(post.open(A)) == [("a", 3)]


def test_an_answer_of_another_version_is_asked_again_and_stays_until_there_is_a_better_one() -> None:
    post = Post(A)
    post.outcome("a", analyzed("Старое"))
    post.rules = PostRules(vision_version="vision@2027-01-01#p2")
    assert tasks(post.open(A)) == [("a", 2)]
    done = post.outcome("a", Failed(reason="refused"), dispatch=2)
    assert (kinds(done), status(done)) == (["analyzed"], "ok")


def test_an_answer_after_a_deferral_replaces_the_kept_analysis() -> None:
    post = Post(A)
    post.outcome("a", analyzed("Старое"))
    post.open(A, force=True)
    post.outcome("a", deferred(), dispatch=2)
    assert tasks(post.open(A)) == []  # a parked task is on its way
    done = results(post.outcome("a", analyzed("Новое", analyzed_at=AT + timedelta(days=1)), dispatch=2))[0]
    assert done.media[0].outcome.answer.analysis.description == "Новое"  # type: ignore[union-attr]  # any other outcome fails it, too


def test_a_deferred_second_look_is_not_forgotten() -> None:
    post = Post(A)
    post.outcome("a", analyzed())
    post.open(A, force=True)
    post.outcome("a", deferred(), dispatch=2)
    assert post.row is not None
    assert not forgettable(post.row, post.time_ms + 2 * FORGET_AFTER_MS)


def test_dispatch_numbers_go_on_after_a_skip_by_policy() -> None:
    post = Post(A)
    post.outcome("a", Failed(reason="refused"))
    post.open(A, verdicts=[NO])
    assert tasks(post.open(A)) == [("a", 2)]


# --- collecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "emitted"),
    [
        (deferred(), analyzed(), True),
        (deferred(), missing(), True),
        (deferred(1), deferred(2), True),
        (deferred(2), deferred(1), False),
        (deferred(), deferred(), False),
        (missing(), deferred(), False),
        (missing(), Failed(reason="refused"), False),
        (missing(), analyzed(), True),
        (analyzed(), missing(), False),
        (analyzed(), deferred(), False),
        (analyzed("Раз"), analyzed("Два"), False),
    ],
)
def test_within_one_dispatch_an_outcome_only_improves(first: Outcome, second: Outcome, emitted: bool) -> None:
    post = Post(A)
    post.outcome("a", first)
    assert bool(results(post.outcome("a", second))) == emitted


def test_of_an_older_dispatch_only_an_answer_counts() -> None:
    post = Post(A)
    post.open(A, force=True)
    assert post.outcome("a", missing(), dispatch=1).send == []
    assert status(post.outcome("a", analyzed(), dispatch=1)) == "ok"
    assert post.outcome("a", missing(), dispatch=2).send == []


def test_a_free_copy_of_the_same_answer_does_not_hide_what_it_cost() -> None:
    post = Post(A)
    paid = analyzed(tokens=700)
    post.outcome("a", paid)
    post.open(A, force=True)
    done = results(post.outcome("a", cached(paid), dispatch=2))[0]
    assert done.media[0].outcome == paid


def test_the_post_waits_for_all_its_media_and_is_emitted_once() -> None:
    post = Post(A, B)
    assert post.outcome("a", analyzed()).send == []
    assert status(post.outcome("b", analyzed("Дом"))) == "ok"
    assert post.outcome("b", analyzed("Дом")).send == []


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ([analyzed(), analyzed()], "ok"),
        ([analyzed(), analyzed(verdict="partial")], "partial"),
        ([analyzed(), Failed(reason="refused")], "partial"),
        ([missing(), deferred()], "skipped"),
        ([missing(), Failed(reason="refused")], "error"),
    ],
)
def test_a_posts_status_follows_from_its_media(ended: list[Outcome], expected: str) -> None:
    post = Post(A, B)
    post.outcome("a", ended[0])
    assert status(post.outcome("b", ended[1])) == expected


def test_an_outcome_that_was_not_requested_is_rejected_with_advice() -> None:
    for post in (Post(), Post(B)):
        rejected = post.outcome("a", analyzed())
        assert rejected.reject is not None
        assert "replay" in rejected.reject
        assert rejected.row is None


def test_a_message_that_is_not_a_command_is_rejected() -> None:
    with pytest.raises(TypeError, match="no post command"):
        Post().do(A)


# --- emissions and repeats --------------------------------------------------------------------------------------------


def test_an_emission_is_the_command_that_completed_and_grows_though_the_clock_steps_back() -> None:
    post = Post(A)
    first = results(post.outcome("a", deferred()))[0].emission
    assert first == Emission(time_ms=post.time_ms, offset=post.offset)
    post.time_ms -= 5000
    assert first < results(post.outcome("a", analyzed()))[0].emission


def test_redelivered_before_the_row_was_written_it_decides_the_same_and_afterwards_nothing() -> None:
    post, at = Post(A, B), Moment(time_ms=AT_MS + 99, offset=99)
    command = MediaOutcome(tenant_id="t", post_id="p", trace_id="x", sha256="a", dispatch=1, outcome=analyzed())
    assert decide(post.row, command, at, post.rules) == decide(post.row, command, at, post.rules)
    post.do(command, at)
    assert post.do(command, at).observed == [("duplicate", {})]


# --- forgetting -------------------------------------------------------------------------------------------------------


def test_a_finished_post_is_forgotten_after_a_day_if_it_is_still_the_completion_that_was_seen() -> None:
    post = Post(A)
    post.outcome("a", missing())
    completed = post.row.completed_ms if post.row else None
    assert completed is not None
    forget = Forget(tenant_id="t", post_id="p", completed_ms=completed)
    assert not post.do(forget).forget
    post.time_ms += FORGET_AFTER_MS
    assert not post.do(forget.model_copy(update={"completed_ms": completed - 1})).forget
    assert post.do(forget).forget
    assert post.row is None
    assert not post.do(forget).forget


@pytest.mark.parametrize("outcome", [None, deferred()])
def test_a_post_that_expects_something_is_never_forgotten(outcome: Outcome | None) -> None:
    post = Post(A)
    if outcome:
        post.outcome("a", outcome)
    assert post.row is not None
    assert not forgettable(post.row, post.time_ms + 10 * FORGET_AFTER_MS)


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "ж", "好", "😀", '"', "\n"])
@pytest.mark.parametrize("count", [1, 10, 100])
def test_a_row_stays_small_whatever_was_read_off_its_pictures(letter: str, count: int) -> None:
    post = Post(*(medium(f"{n:064x}") for n in range(count)))
    seen = analysis(ocr=Ocr(text=letter * 100_000, engine="gigachat"), context={"note": letter * 4_000})
    for number in range(count):
        done = post.outcome(f"{number:064x}", analyzed(seen=seen))
    assert post.row is not None
    assert len(post.row.encode()) < 500_000
    assert len(results(done)[0].encode()) < 500_000
    kept = results(done)[0].media[0].outcome
    assert isinstance(kept, Analyzed)
    assert kept.answer.analysis is not None
    assert kept.answer.analysis.description == "Кот на окне"
    assert kept.answer.analysis.ocr is not None


def test_a_row_stays_small_though_its_media_come_one_by_one() -> None:
    post = Post()
    seen = analysis(ocr=Ocr(text="ж" * 100_000, engine="gigachat"))
    for number in range(60):
        post.open(medium(f"{number:064x}"))
        post.outcome(f"{number:064x}", analyzed(seen=seen))
    assert post.row is not None
    assert len(post.row.encode()) < 500_000


def test_a_short_text_is_kept_whole() -> None:
    post = Post(A)
    kept = results(post.outcome("a", analyzed()))[0].media[0].outcome
    assert kept == analyzed()


def test_the_same_publication_relayed_again_is_silent_though_its_picture_was_skipped() -> None:
    """A crash repeats the relay. Only a new publication makes a skipped picture be looked at again."""
    post = Post()
    post.open(A, publication="stream/1-0")
    post.outcome(A.sha256, missing())
    assert post.open(A, publication="stream/1-0").observed == [("duplicate", {})]
    assert tasks(post.open(A, publication="stream/2-0")) == [(A.sha256, 2)]


publications = st.lists(
    st.lists(st.tuples(st.sampled_from([A, B, C]), st.booleans()), min_size=1, max_size=4), min_size=2, max_size=4
)


@given(publications=publications, order=st.randoms(use_true_random=False))
def test_publications_of_a_post_that_overtake_one_another_ask_the_same_and_once(
    publications: list[list[tuple[Medium, bool]]], order: Any
) -> None:
    """The policy agent handles many events at once, so a retried send may come after the next one. That is no error."""

    def opened(indices: list[int]) -> tuple[Any, Any, Any]:
        post, asked = Post(), []
        for index in indices:
            verdicts = [YES if wanted else NO for _, wanted in publications[index]]
            decision = post.open(*(m for m, _ in publications[index]), verdicts=verdicts, publication=f"s/{index}-0")
            asked += [sha256 for sha256, _ in tasks(decision)]
        assert post.row is not None
        states = {sha256: (state.in_work, state.outcome) for sha256, state in post.row.media.items()}
        return sorted(asked), states, sorted(item.sha256 for item in post.row.event.media_files)

    indices = list(range(len(publications)))
    shuffled = indices.copy()
    order.shuffle(shuffled)
    assert opened(indices) == opened(shuffled)
    assert len(set(opened(indices)[0])) == len(opened(indices)[0])
