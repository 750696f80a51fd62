"""Requests to single objects of a bucket, each signed (`s3_signature.py`) and sent over one aiohttp session of ours.

A request through aioboto3's client takes three times the processor time: it resolves the endpoint and runs its hooks
anew each time (scripts/step_costs.py). That client stays for the rest: listing, deleting, buckets. Both take their
address, credentials, certificates and proxies from the same settings, and both raise botocore's `ClientError`.
"""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from aiohttp import ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.utils import get_environ_proxies
from multidict import CIMultiDictProxy
from yarl import URL

from vision_app.settings import Settings

from .s3_signature import Keys, Signer
from .tls import TlsFiles, client_context

CHUNK_BYTES = 256 * 1024
MAX_ERROR_BYTES = 64 * 1024
SAFE_IN_KEY = "/~"  # what botocore leaves as it is
METADATA = "x-amz-meta-"
_CODE = re.compile(rb"<Code>\s*([\w.]{1,100})\s*</Code>")
_PROBE = "probe"


class ObjectRequests:
    """GET and PUT of single objects. Raises ClientError for a refusal, NoCredentialsError, and aiohttp's errors."""

    def __init__(self, settings: Settings, bucket_url: str, credentials: Any) -> None:
        """`bucket_url` ends with `/`. `credentials` has botocore's `get_frozen_credentials`, awaitable or not; None if
        none were found.
        """
        self._bucket_url, self._credentials = bucket_url, credentials
        self._signer = Signer(settings.s3_region, bucket_url)
        self._proxy = get_environ_proxies(bucket_url).get(urlsplit(bucket_url).scheme)
        self._tls = client_context(TlsFiles("S3", settings.s3_ca_file))
        self._http: ClientSession | None = None

    async def open(self, *, connections: int, connect_seconds: float, read_seconds: float, user_agent: str) -> None:
        """Make the session; nothing is sent yet. `read_seconds`: the longest silence on a socket."""
        self._http = ClientSession(
            connector=TCPConnector(limit=connections, ssl=self._tls),
            timeout=ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=read_seconds),
            headers={"User-Agent": user_agent},
            skip_auto_headers=("Accept-Encoding",),  # the bytes as they are stored
            auto_decompress=False,
            cookie_jar=DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def read(self, key: str, limit_bytes: int) -> bytes | None:
        """The whole body; None if it is longer than `limit_bytes`, of which no more is read than that."""
        async with self._answer("GET", key) as answer:
            content = bytearray()
            if (answer.content_length or 0) <= limit_bytes:
                while chunk := await answer.content.read(CHUNK_BYTES):
                    content += chunk
                    if len(content) > limit_bytes:
                        break
                else:
                    return bytes(content)
            answer.close()  # the rest is not read, so the connection cannot be used again
        return None

    async def first_byte(self, key: str) -> tuple[int, CIMultiDictProxy[str]]:
        """The size of the object and the headers of the answer."""
        async with self._answer("GET", key, headers={"Range": "bytes=0-0"}) as answer:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdigit():
                await answer.read()  # one byte, after which the connection can be used again
                return int(total), answer.headers
            answer.close()
            return answer.content_length or 0, answer.headers

    async def put(self, key: str, body: bytes, headers: Mapping[str, str]) -> None:
        async with self._answer("PUT", key, body, headers) as answer:
            await answer.read()

    @asynccontextmanager
    async def _answer(
        self, method: str, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[ClientResponse]:
        if self._http is None:
            raise RuntimeError("open() was not called")
        encoded = quote(key, safe=SAFE_IN_KEY)
        signed = self._signer.signed(await self._keys(), method, encoded, headers or {}, body)
        request = self._http.request(
            method,
            URL(self._bucket_url + encoded, encoded=True),
            data=io.BytesIO(body) if body else None,  # bytes above 1 MiB would be sent in one piece
            headers=signed,
            allow_redirects=False,
            proxy=self._proxy,
        )
        async with request as answer:
            if answer.status not in (200, 204, 206):
                raise ClientError(await _refusal(answer), f"{method} of an object")
            yield answer

    async def _keys(self) -> Keys:
        if self._credentials is None:
            raise NoCredentialsError
        frozen = self._credentials.get_frozen_credentials()
        if not hasattr(frozen, "access_key"):
            frozen = await frozen  # a role's: they may have to be fetched anew
        keys: Keys = frozen
        return keys


async def _refusal(answer: ClientResponse) -> dict[str, Any]:
    """The parsed error of a refusal, in botocore's form."""
    found = _CODE.search(await answer.content.read(MAX_ERROR_BYTES))
    if not answer.content.at_eof():
        answer.close()
    code = found[1].decode() if found else str(answer.status)
    return {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": answer.status}}


async def bucket_url(client: Any, bucket: str) -> str:
    """Where aioboto3's client finds a bucket: the address before the keys of its objects, with the last `/`."""
    url: str = await client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": _PROBE})
    return url.partition("?")[0].removesuffix(_PROBE)


def metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    return {METADATA + name: value for name, value in metadata.items()}


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    """The metadata of an answer, with names in lower case."""
    named = ((name.lower(), value) for name, value in headers.items())
    return {name.removeprefix(METADATA): value for name, value in named if name.startswith(METADATA)}


def last_modified(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("last-modified", ""))
    except ValueError:
        return None


def encryption_headers(arguments: Mapping[str, str]) -> dict[str, str]:
    """The headers for `encryption_arguments`."""
    names = {
        "ServerSideEncryption": "x-amz-server-side-encryption",
        "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    }
    return {names[name]: value for name, value in arguments.items()}
