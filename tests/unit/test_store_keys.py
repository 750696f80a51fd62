"""Keys of S3 objects: as agreed with the readers, and safe for any identity."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.messages import Provider
from vision_app.stores.keys import account_of, answer_key, answers_about, call_key, media_key, parse_key, post_key

SHA = "ab" * 32

anything = st.text(min_size=1, max_size=300)
nasty = st.one_of(
    anything,
    st.text(alphabet="./\\_%=~ аb", min_size=1, max_size=12),
    st.sampled_from([".", "..", "...", "/", "../..", ".calls", "posts", "a..", "sha256=", "%2E", "a_b", "a%5Fb"]),
)
providers: st.SearchStrategy[Provider] = st.sampled_from(["gigachat", "ocr_fallback"])
Identity = tuple[str, str, Provider, str, str]


def test_keys_have_the_agreed_form() -> None:
    assert media_key("t", SHA, "image/jpeg") == f"media/t/ab/{SHA}.jpg"
    assert media_key("t", SHA, "x/unknown") == f"media/t/ab/{SHA}.bin"
    assert (
        answer_key("t", SHA, "gigachat", "GigaChat-Pro", "p1") == f"vision/t/{SHA}_gigachat_GigaChat-Pro_v1.0_p1.json"
    )
    assert call_key("t", "17-3") == "vision/t/.calls/17-3.json"
    assert post_key("t", "p-1001") == "vision/t/posts/p-1001.json"


def all_keys(tenant: str, entity: str, provider: Provider, model: str, version: str) -> dict[tuple[str, ...], str]:
    return {
        ("media", tenant, entity): media_key(tenant, entity, "image/png"),
        ("answer", tenant, entity, provider, model, version): answer_key(tenant, entity, provider, model, version),
        ("call", tenant, entity): call_key(tenant, entity),
        ("post", tenant, entity): post_key(tenant, entity),
    }


@given(a=st.tuples(nasty, nasty, providers, nasty, nasty), b=st.tuples(nasty, nasty, providers, nasty, nasty))
def test_distinct_identities_have_distinct_keys(a: Identity, b: Identity) -> None:
    keys = all_keys(*a) | all_keys(*b)
    assert len(set(keys.values())) == len(keys)


words = st.lists(st.sampled_from(["a", "v1.0", "gigachat", "ocr", "fallback"]), min_size=3, max_size=7)


@given(words=words, cuts=st.lists(st.integers(1, 6), min_size=4, max_size=4))
def test_parts_of_an_answers_name_cannot_be_shifted(words: list[str], cuts: list[int]) -> None:
    """The same words, cut into picture, model and prompt version at different places."""
    one, other = _cut(words, *cuts[:2]), _cut(words, *cuts[2:])
    same_key = _answer(one) == _answer(other)
    assert same_key == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("s", "m_v1.0_x", "y"), ("s", "m", "x_v1.0_y")),
        (("s_gigachat_m", "n", "y"), ("s", "m_gigachat_n", "y")),
        (("s", "m", "y"), ("s", "m%5F", "y")),
        (("s_", "m", "y"), ("s%5F", "m", "y")),
    ],
)
def test_known_ways_to_shift_a_part(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert _answer(one) != _answer(other)


def _cut(words: list[str], first: int, second: int) -> tuple[str, str, str]:
    low, high = sorted((first % (len(words) - 1) + 1, second % (len(words) - 1) + 1))
    return "_".join(words[:low]), "_".join(words[low:high]) or "-", "_".join(words[high:]) or "-"


def _answer(parts: tuple[str, str, str]) -> str:
    sha256, model, version = parts
    return answer_key("t", sha256, "gigachat", model, version)


@given(tenant=nasty, entity=nasty, provider=providers, model=nasty, version=nasty)
def test_no_key_leaves_its_folder(tenant: str, entity: str, provider: Provider, model: str, version: str) -> None:
    for kind, key in all_keys(tenant, entity, provider, model, version).items():
        segments = key.split("/")
        assert len(segments) == (3 if kind[0] == "answer" else 4), key
        assert all(segments), key
        assert ".." not in key
        assert not any(segment.startswith(".") and segment != ".calls" for segment in segments)
        assert key.isascii()
        assert key.isprintable()


@given(tenant=anything, entity=anything, provider=providers, model=anything, version=anything)
def test_keys_fit_into_file_systems_and_s3(
    tenant: str, entity: str, provider: Provider, model: str, version: str
) -> None:
    for key in all_keys(tenant, entity, provider, model, version).values():
        assert len(key) <= 1024
        assert max(len(segment) for segment in key.split("/")) <= 255


@given(tenant=nasty, entity=nasty)
def test_tenant_and_type_are_read_from_our_keys(tenant: str, entity: str) -> None:
    account = account_of(tenant)
    kinds = {"media": "media", "answer": "answer", "call": "call", "post": "document"}
    for (name, *_), key in all_keys(tenant, entity, "gigachat", "m", "p1").items():
        place = parse_key(key)
        assert (place.kind, place.account) == (kinds[name], account)
        if name == "answer":
            assert place.subject == answers_about(tenant, entity)
            assert key.startswith(place.subject)


@pytest.mark.parametrize(
    ("key", "kind", "account"),
    [
        (f"media/877193ef-be80-4977-aaeb-8009c3d772ee/4e/{SHA}..png", "media", "877193ef-be80-4977-aaeb-8009c3d772ee"),
        (f"media/default/abc/{SHA}.jpg", "media", "default"),
        ("media/тенант/x.jpg", "media", "тенант"),
        ("media/%D1%82/x.jpg", "media", "т"),
        ("media/%ff%00/x.jpg", "media", "%ff%00"),
        ("media/lost.jpg", "media", ""),
        ("media/", "media", ""),
        (f"vision/t/{SHA}_gigachat_GigaChat-Pro_v1.0.json", "answer", "t"),
        (f"vision/t/ab/{SHA}.json", "answer", "t"),
        ("crawl/t/17/abc.html", "crawl", "t"),
        ("album/t/17_vision_summary_v1.json", "album", "t"),
        ("no/such/key.jpg", "other", ""),
        ("plain", "other", ""),
        ("", "other", ""),
    ],
)
def test_keys_of_other_layouts_are_counted_too(key: str, kind: str, account: str) -> None:
    assert parse_key(key)[:2] == (kind, account)


@given(key=st.text(max_size=40) | st.text(alphabet="/.%_av", max_size=20).map("vision/".__add__))
def test_any_key_has_a_place(key: str) -> None:
    parse_key(key)
