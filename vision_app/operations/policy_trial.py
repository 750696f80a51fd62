"""Runs recorded inputs through another policy: which media it would add, and which it would skip. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vision_app.domain.policy import Context, Policy, decide
from vision_app.messages import PolicyVerdict, Uploaded
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings

ANALYZE = "analyze"


@dataclass
class Trial:
    """Media by (verdict now, verdict then); a verdict is `analyze` or the name of the rule that rejects the medium.

    Tokens are upper bounds over the distinct pictures of each tenant; stored answers are not subtracted.
    """

    posts: int = 0
    media: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens_now: int = 0
    tokens_then: int = 0

    @property
    def changed(self) -> dict[tuple[str, str], int]:
        return {pair: count for pair, count in self.verdicts.items() if pair[0] != pair[1]}


def compare(events: Iterable[Uploaded], now: Policy, then: Policy, settings: Settings) -> Trial:
    """Run every event through both policies. The tenants' spending is unknown here, so the stricter case is assumed."""
    trial = Trial()
    priced: dict[str, set[tuple[str, str]]] = {"now": set(), "then": set()}
    for event in events:
        trial.posts += 1
        verdicts = zip(
            event.media_files,
            decide(now, event, context=Context()),
            decide(then, event, context=Context()),
            strict=True,
        )
        for medium, before, after in verdicts:
            trial.media += 1
            trial.verdicts[_name(before), _name(after)] += 1
            tokens = estimate_tokens(medium.size_bytes, medium.mime_type, settings)
            picture = (event.tenant_id, medium.sha256)
            if before.analyze and picture not in priced["now"]:
                priced["now"].add(picture)
                trial.tokens_now += tokens
            if after.analyze and picture not in priced["then"]:
                priced["then"].add(picture)
                trial.tokens_then += tokens
    return trial


def _name(verdict: PolicyVerdict) -> str:
    return ANALYZE if verdict.analyze else str(verdict.details["policy_name"])
