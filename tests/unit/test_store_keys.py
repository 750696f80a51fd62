"""Keys of S3 objects: as agreed with the readers, and safe whatever an identity contains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vision_app.stores.keys import answer_key, call_key, media_key, post_key

SHA = "ab" * 32

anything = st.text(min_size=1, max_size=300)
nasty = st.one_of(
    anything,
    st.text(alphabet="./\\_%=~ аb", min_size=1, max_size=12),
    st.sampled_from([".", "..", "...", "/", "../..", ".calls", "posts", "a..", "sha256=", "%2E", "a_b", "a%5Fb"]),
)
providers = st.sampled_from(["gigachat", "ocr_fallback"])


def test_keys_have_the_agreed_form() -> None:
    assert media_key("t", SHA, "image/jpeg") == f"media/t/ab/{SHA}.jpg"
    assert media_key("t", SHA, "x/unknown") == f"media/t/ab/{SHA}.bin"
    assert (
        answer_key("t", SHA, "gigachat", "GigaChat-Pro", "p1") == f"vision/t/{SHA}_gigachat_GigaChat-Pro_v1.0_p1.json"
    )
    assert call_key("t", "17-3") == "vision/t/.calls/17-3.json"
    assert post_key("t", "p-1001") == "vision/t/posts/p-1001.json"


def all_keys(tenant: str, entity: str, provider: str, model: str, version: str) -> dict[tuple[str, ...], str]:
    return {
        ("media", tenant, entity): media_key(tenant, entity, "image/png"),
        ("answer", tenant, entity, provider, model, version): answer_key(tenant, entity, provider, model, version),
        ("call", tenant, entity): call_key(tenant, entity),
        ("post", tenant, entity): post_key(tenant, entity),
    }


@given(a=st.tuples(nasty, nasty, providers, nasty, nasty), b=st.tuples(nasty, nasty, providers, nasty, nasty))
def test_distinct_identities_have_distinct_keys(a: tuple[str, ...], b: tuple[str, ...]) -> None:
    keys = all_keys(*a) | all_keys(*b)
    assert len(set(keys.values())) == len(keys)


@given(parts=st.lists(st.text(alphabet="ab_.", min_size=1, max_size=3), min_size=3, max_size=3), provider=providers)
def test_parts_of_a_name_cannot_be_shifted(parts: list[str], provider: str) -> None:
    sha256, model, version = parts
    moved = [f"{sha256}_{provider}", model, version]
    assert answer_key("t", *_answer(parts, provider)) != answer_key("t", *_answer(moved, provider))


def _answer(parts: list[str], provider: str) -> tuple[str, str, str, str]:
    return parts[0], provider, parts[1], parts[2]


@given(tenant=nasty, entity=nasty, provider=providers, model=nasty, version=nasty)
def test_no_key_leaves_its_folder(tenant: str, entity: str, provider: str, model: str, version: str) -> None:
    for kind, key in all_keys(tenant, entity, provider, model, version).items():
        segments = key.split("/")
        assert len(segments) == (3 if kind[0] == "answer" else 4), key
        assert all(segments), key
        assert ".." not in key
        assert not any(segment.startswith(".") and segment != ".calls" for segment in segments)
        assert key.isascii()
        assert key.isprintable()


@given(tenant=anything, entity=anything, provider=providers, model=anything, version=anything)
def test_keys_fit_into_file_systems_and_s3(tenant: str, entity: str, provider: str, model: str, version: str) -> None:
    for key in all_keys(tenant, entity, provider, model, version).values():
        assert len(key) <= 1024
        assert max(len(segment) for segment in key.split("/")) <= 255
