"""Decides which objects a clean-up deletes, and why. Pure: no S3, no clock. Memory grows with tenants, not objects.

It takes two passes over the same objects. The first adds them up (`CleanupTally`); from the sums `plan` computes how
much each tenant has to give up under each rule. The second, oldest use first, decides whether each object is deleted
(`CleanupPlan.decide`), for one of these reasons:
* `ttl`: not used for longer than its type is kept;
* `type_limit`: its type holds more than it may;
* `tenant_limit`: its tenant holds more than it may (only when an operator asks: uploads are refused anyway);
* `emergency`: the bucket is nearly full: old crawled pages, then old answers, then media, down to the target. Within a
  rule the largest tenants give up first, down to one common level. Each gives up its least recently used objects.
  Objects that an unfinished post needs are never deleted. `vision_app/retention/` executes the deletions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["media", "answer", "call", "document", "crawl", "album", "other"]
ContentType = Literal["media", "vision", "crawl", "album", "other"]
Reason = Literal["ttl", "type_limit", "tenant_limit", "emergency"]
Protection = Literal["needed", "awaited", "call_record", "foreign"]

TYPE_OF: Mapping[Kind, ContentType] = {
    "media": "media",
    "answer": "vision",
    "call": "vision",
    "document": "vision",
    "crawl": "crawl",
    "album": "album",
    "other": "other",
}
CLEANED: tuple[ContentType, ...] = ("crawl", "vision", "media")
"""Types that may be deleted, in the order in which they are deleted when the bucket is nearly full."""
DAY = 86_400.0


class StoredObject(NamedTuple):
    """One object of the bucket. Times are seconds since the epoch; `seen_at`: when a post last listed it.

    `needed`: a post in work or waiting for budget depends on it. `tenant_id`: the tenant that the room is counted to.
    """

    key: str
    tenant_id: str
    kind: Kind
    size_bytes: int
    modified_at: float
    seen_at: float | None = None
    needed: bool = False

    @property
    def used_at(self) -> float:
        return self.modified_at if self.seen_at is None else max(self.modified_at, self.seen_at)

    @property
    def content_type(self) -> ContentType:
        return TYPE_OF[self.kind]


@dataclass(frozen=True)
class StorageLimits:
    """Sizes in bytes, times in seconds. `ttl`, `type_bytes` and `emergency_age` by content type.

    `upload_grace`: how long an upload may wait for the post that lists it. `call_record_age`: how long a record of a
    paid call may still prevent a second call: as long as its message may be redelivered.
    """

    total_bytes: int
    emergency_bytes: int
    target_bytes: int
    tenant_bytes: int
    type_bytes: Mapping[str, int]
    ttl: Mapping[str, float]
    emergency_age: Mapping[str, float]
    upload_grace: float
    call_record_age: float


@dataclass(frozen=True)
class Aim:
    """The purpose of a clean-up. `content_type` restricts it; `target_bytes` is the size that the bucket has to reach.

    Without `target_bytes`, a scheduled clean-up frees room only above the emergency threshold, a manual one above the
    configured target. A clean-up by `ttl` deletes only expired objects.
    """

    trigger: Literal["schedule", "manual", "ttl"] = "schedule"
    content_type: str | None = None
    target_bytes: int | None = None


class Deletion(NamedTuple):
    key: str
    tenant_id: str
    content_type: ContentType
    size_bytes: int
    modified_at: float
    reason: Reason


class CleanupTally:
    """The first pass: what every tenant holds, and how much of it may be deleted. Objects may come in any order."""

    def __init__(self, limits: StorageLimits, aim: Aim, now: float) -> None:
        self.limits, self.aim, self.now = limits, aim, now
        self.held: Counter[tuple[str, str]] = Counter()  # (content type, tenant): bytes without the expired objects
        self.free: Counter[tuple[str, str]] = Counter()  # of these, what may be deleted
        self.stale: Counter[tuple[str, str]] = Counter()  # of these, old enough to be deleted in an emergency
        self.protected: Counter[Protection] = Counter()  # bytes
        self.total_bytes = 0

    def add(self, item: StoredObject) -> None:
        self.total_bytes += item.size_bytes
        place = (item.content_type, item.tenant_id)
        why = protection(item, self.limits, self.now)
        if why is not None:
            self.protected[why] += item.size_bytes
        elif self.wanted(item) and expired(item, self.limits, self.now):
            return
        elif self.wanted(item):
            self.free[place] += item.size_bytes
            if stale(item, self.limits, self.now):
                self.stale[place] += item.size_bytes
        self.held[place] += item.size_bytes

    def wanted(self, item: StoredObject) -> bool:
        return self.aim.content_type in (None, item.content_type)

    def by_tenant(self) -> Counter[str]:
        """Bytes that each tenant holds, without the expired objects."""
        held: Counter[str] = Counter()
        for (_, tenant), size in self.held.items():
            held[tenant] += size
        return held


@dataclass
class Quotas:
    """How many bytes one rule still deletes, per tenant and type, and in all."""

    per_tenant: Counter[tuple[str, str]] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)  # by group: a type, or a tenant, or the bucket

    def take(self, group: str, place: tuple[str, str], size: int) -> bool:
        if self.left[group] <= 0 or self.per_tenant[place] <= 0:
            return False
        self.left[group] -= size
        self.per_tenant[place] -= size
        return True


@dataclass
class CleanupPlan:
    """The second pass. `shortfall_bytes`: by how much the target is missed, because the rest may not be deleted.

    A rule stops once it has freed enough. So it frees at most one object too much, and tenants end at the same level
    except for the last object of each.
    """

    limits: StorageLimits
    aim: Aim
    now: float
    types: Quotas
    tenants: Quotas
    bucket: Quotas
    emergency: bool
    shortfall_bytes: int
    _last: float = float("-inf")

    def decide(self, item: StoredObject) -> Reason | None:
        """Why this object is deleted, or None. Objects must come in the order of their last use, else ValueError."""
        if item.used_at < self._last:
            raise ValueError("objects must be given in the order of their last use, the oldest first")
        self._last = item.used_at
        if self.aim.content_type not in (None, item.content_type) or protection(item, self.limits, self.now):
            return None
        if expired(item, self.limits, self.now):
            return "ttl"
        place = (item.content_type, item.tenant_id)
        if self.types.take(item.content_type, place, item.size_bytes):
            return "type_limit"
        if not stale(item, self.limits, self.now):
            return None
        if self.tenants.take(item.tenant_id, place, item.size_bytes):
            return "tenant_limit"
        return "emergency" if self.bucket.take(item.content_type, place, item.size_bytes) else None


def protection(item: StoredObject, limits: StorageLimits, now: float) -> Protection | None:
    """Why an object may not be deleted in any case; None if it may."""
    if item.kind in ("album", "other"):
        return "foreign"  # written and read by others; counted only
    if item.needed:
        return "needed"
    if item.kind == "media" and _unlisted(item) and now - item.modified_at < limits.upload_grace:
        return "awaited"
    if item.kind == "call" and now - item.modified_at < limits.call_record_age:
        return "call_record"
    return None


def expired(item: StoredObject, limits: StorageLimits, now: float) -> bool:
    """Whether an unprotected object has not been used for longer than its type is kept."""
    ttl = limits.ttl.get(item.content_type)
    return ttl is not None and now - item.used_at > ttl


def stale(item: StoredObject, limits: StorageLimits, now: float) -> bool:
    """Whether an unprotected object is old enough to be deleted when there is no room."""
    return now - item.used_at > limits.emergency_age.get(item.content_type, 0.0)


def refusal(
    limits: StorageLimits, content_type: str, size_bytes: int, bucket_bytes: int, tenant_bytes: int, type_bytes: int
) -> str | None:
    """Why an object of this size is refused; None if it is accepted. The other arguments are the bytes held now."""
    if bucket_bytes + size_bytes > limits.total_bytes:
        return "bucket_full"
    if tenant_bytes + size_bytes > limits.tenant_bytes:
        return "tenant_limit"
    of_type = limits.type_bytes.get(content_type)
    return "type_limit" if of_type is not None and type_bytes + size_bytes > of_type else None


def _unlisted(item: StoredObject) -> bool:
    """Whether no known post listed the picture since its upload. Its event may still be on the way."""
    return item.seen_at is None or item.seen_at < item.modified_at


def plan(tally: CleanupTally) -> CleanupPlan:
    """Compute from the first pass how much each rule deletes. Each rule counts on what the rules before it free."""
    limits, aim = tally.limits, tally.aim
    held, free, old = tally.by_tenant(), tally.free.copy(), tally.stale.copy()
    types, tenants, bucket = Quotas(), Quotas(), Quotas()
    if aim.trigger != "ttl":
        _level_types(types, tally, held, free, old)
    if aim.trigger == "manual" and aim.target_bytes is None:
        _level_tenants(tenants, limits, held, old)
    total = held.total()
    target = _target(aim, limits, total)
    need = 0 if target is None else max(0, total - target)
    missing = _level_bucket(bucket, need, held, old)
    emergency = need > 0 and total > limits.emergency_bytes
    return CleanupPlan(limits, aim, tally.now, types, tenants, bucket, emergency, missing)


def _target(aim: Aim, limits: StorageLimits, total: int) -> int | None:
    if aim.target_bytes is not None or aim.trigger == "ttl":
        return aim.target_bytes
    threshold = limits.target_bytes if aim.trigger == "manual" else limits.emergency_bytes
    return limits.target_bytes if total > threshold else None


def _level_types(
    quotas: Quotas,
    tally: CleanupTally,
    held: Counter[str],
    free: Counter[tuple[str, str]],
    old: Counter[tuple[str, str]],
) -> None:
    for content_type in CLEANED:
        of_type = _of(tally.held, content_type)
        excess = sum(of_type.values()) - tally.limits.type_bytes[content_type]
        for tenant, size in level_down(of_type, _of(free, content_type), excess).items():
            place = (content_type, tenant)
            quotas.per_tenant[place] = size
            quotas.left[content_type] = excess
            held[tenant] -= size
            old[place] = max(0, old[place] - size)  # the oldest objects, which are the stale ones, are deleted first


def _level_tenants(quotas: Quotas, limits: StorageLimits, held: Counter[str], old: Counter[tuple[str, str]]) -> None:
    for tenant in sorted(held):
        excess = held[tenant] - limits.tenant_bytes
        for content_type in CLEANED:
            size = min(excess, old[content_type, tenant])
            if size > 0:
                excess -= size
                quotas.per_tenant[content_type, tenant] = size
                quotas.left[tenant] += size
                held[tenant] -= size
                old[content_type, tenant] -= size


def _level_bucket(quotas: Quotas, need: int, held: Counter[str], old: Counter[tuple[str, str]]) -> int:
    """Returns the bytes that cannot be freed."""
    for content_type in CLEANED:
        sizes = level_down(held, _of(old, content_type), need)
        taken = min(need, sum(sizes.values()))
        quotas.left[content_type] = taken
        need -= taken
        for tenant, size in sizes.items():
            quotas.per_tenant[content_type, tenant] = size
            held[tenant] -= size
    return need


def _of(sizes: Mapping[tuple[str, str], int], content_type: str) -> dict[str, int]:
    return {tenant: size for (kind, tenant), size in sizes.items() if kind == content_type}


def level_down(held: Mapping[str, int], free: Mapping[str, int], need: int) -> dict[str, int]:
    """How many bytes each tenant gives up to meet `need`: what it holds above one common level, as far as it is free.

    `held` counts for the level; `free` is what a tenant can give up. A tenant below the level gives up nothing. If
    `free` is not enough, all of it is returned; if nothing is needed, nothing. The sum may exceed `need` by a byte per
    tenant.
    """
    if need <= 0:
        return {}

    def given(level: int) -> dict[str, int]:
        return {tenant: min(size, max(0, held.get(tenant, 0) - level)) for tenant, size in free.items()}

    low, high = 0, max(held.values(), default=0) + 1
    while high - low > 1:  # the highest level that still frees enough
        middle = (low + high) // 2
        low, high = (middle, high) if sum(given(middle).values()) >= need else (low, middle)
    return {tenant: size for tenant, size in given(low).items() if size > 0}


def plan_deletions(
    objects: Callable[[], Iterable[StoredObject]], limits: StorageLimits, aim: Aim, now: float
) -> Iterator[Deletion]:
    """Run both passes. `objects()` is called twice. The second time it returns the same objects, oldest use first."""
    tally = CleanupTally(limits, aim, now)
    for item in objects():
        tally.add(item)
    planned = plan(tally)
    for item in objects():
        if reason := planned.decide(item):
            yield deletion(item, reason)


def deletion(item: StoredObject, reason: Reason) -> Deletion:
    return Deletion(item.key, item.tenant_id, item.content_type, item.size_bytes, item.modified_at, reason)


def ages(objects: Iterable[StoredObject]) -> list[StoredObject]:
    """The objects sorted for the second pass, for callers whose store does not sort."""
    return sorted(objects, key=lambda item: (item.used_at, item.key))


__all__ = [
    "CLEANED",
    "DAY",
    "TYPE_OF",
    "Aim",
    "CleanupPlan",
    "CleanupTally",
    "Deletion",
    "StorageLimits",
    "StoredObject",
    "ages",
    "deletion",
    "expired",
    "level_down",
    "plan",
    "plan_deletions",
    "protection",
    "refusal",
    "stale",
]
