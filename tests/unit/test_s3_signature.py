"""Our signature is botocore's, for any request that the client sends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from vision_app.clients.s3_objects import SAFE_IN_KEY
from vision_app.clients.s3_signature import Signer

BUCKET = "http://127.0.0.1:9000/vision/"
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
KEYS = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Range", "If-None-Match", "x-amz-meta-emission", "X-Amz-Meta-B", "User-Agent"]),
    PRINTABLE,
)
ENDPOINTS = st.sampled_from(
    [
        "http://127.0.0.1:9000/vision/",
        "https://s3.example.org/vision/",
        "https://vision.s3.example.org:443/",
        "http://s3.example.org:80/vision/",
        "http://[::1]:9000/vision/",
        "https://S3.Example.org:8443/vision/",
    ]
)


def by_botocore(
    keys: ReadOnlyCredentials, region: str, method: str, url: str, headers: Mapping[str, str], body: bytes
) -> tuple[dict[str, str], datetime]:
    """The headers, and the time for which they are signed: botocore takes it from the clock."""
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    S3SigV4Auth(keys, "s3", region).add_auth(request)
    return dict(request.headers.items()), datetime.strptime(request.headers["X-Amz-Date"], "%Y%m%dT%H%M%S%z")


@given(
    method=st.sampled_from(["GET", "PUT", "DELETE"]),
    endpoint=ENDPOINTS,
    key=st.text(min_size=1, max_size=40)
    .filter(lambda key: not set(key) & {"?", "#"})
    .map(lambda key: quote(key.encode("utf-8", "replace"), safe=SAFE_IN_KEY)),
    headers=HEADERS,
    body=st.binary(max_size=200),
    token=st.none() | st.text("abc+/=", min_size=1, max_size=20),
    region=st.sampled_from(["us-east-1", "ru-central-1"]),
)
def test_any_request_is_signed_as_botocore_signs_it(
    method: str, endpoint: str, key: str, headers: dict[str, str], body: bytes, token: str | None, region: str
) -> None:
    keys = ReadOnlyCredentials(KEYS.access_key, KEYS.secret_key, token)
    expected, at = by_botocore(keys, region, method, endpoint + key, headers, body)
    ours = Signer(region, endpoint).signed(keys, method, key, headers, body, at)
    assert ours == {name: value for name, value in expected.items() if name in ours}
    assert {name.lower() for name in ours} == {name.lower() for name in expected}


@pytest.mark.parametrize("earlier", [timedelta(seconds=1), timedelta(days=1)])
def test_one_signer_follows_the_time(earlier: timedelta) -> None:
    signer = Signer("us-east-1", BUCKET)
    expected, at = by_botocore(KEYS, "us-east-1", "GET", BUCKET + "a", {}, b"")
    signer.signed(KEYS, "GET", "a", {}, b"", at - earlier)
    assert signer.signed(KEYS, "GET", "a", {}, b"", at) == expected


def test_one_signer_follows_rotated_keys() -> None:
    rotated = ReadOnlyCredentials(KEYS.access_key, "another", None)
    signer = Signer("us-east-1", BUCKET)
    expected, at = by_botocore(rotated, "us-east-1", "GET", BUCKET + "a", {}, b"")
    signer.signed(KEYS, "GET", "a", {}, b"", at)
    assert signer.signed(rotated, "GET", "a", {}, b"", at) == expected


def test_the_time_is_sent_in_utc() -> None:
    moscow = NOON.astimezone(timezone(timedelta(hours=3)))
    assert Signer("r", BUCKET).signed(KEYS, "GET", "a", {}, b"", moscow)["X-Amz-Date"] == "20261128T120000Z"
