"""The S3 client: one per process, with bounded connections, time and retries. Other modules decide what is stored.

S3Error
├── ObjectMissing      there is no such object
├── ObjectForbidden    there may be one, but we may not read or write it
├── ObjectTooLarge     larger than the caller is willing to read
└── StoreUnavailable   the object is not to blame: network, 5xx
    └── StoreMisconfigured   credentials, bucket or clock: an operator has to act
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import aioboto3
import stamina
import structlog
from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from vision_app import __version__
from vision_app.clients.faults import explain
from vision_app.clients.s3 import S3, encryption_arguments, s3_arguments, s3_credentials
from vision_app.clients.s3_objects import (
    ObjectRequests,
    bucket_url,
    encryption_headers,
    last_modified,
    metadata_headers,
    metadata_of,
)
from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.telemetry.reachability import Reachability
from vision_app.texts import noted, say

from .sizes import Sizes

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 32
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 20  # silence on the socket
CALL_TIMEOUT_SECONDS = 30.0  # one attempt, body included
ATTEMPTS = 3
DELETE_BATCH = 1000  # S3's own limit
MAX_KEY_BYTES = 1024  # S3's own limit
USER_AGENT = f"vision_app/{__version__}"

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_FORBIDDEN = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "InvalidObjectState"})
_BAD_KEY = frozenset({"InvalidArgument", "InvalidObjectName", "InvalidURI", "KeyTooLongError", "MethodNotAllowed"})
_EMPTY = frozenset({"InvalidRange", "416"})  # there is no first byte
_NO_BUCKET = "NoSuchBucket"
_MISCONFIGURED = {
    _NO_BUCKET: noted("the bucket does not exist; `vision migrate repair` creates it, or correct S3_BUCKET"),
    "InvalidAccessKeyId": noted("the access key is unknown; correct S3_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": noted("the secret key does not fit; correct S3_SECRET_ACCESS_KEY"),
    "RequestTimeTooSkewed": noted("this machine's clock is wrong; correct it"),
}

_CONFIG = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "read_timeout": READ_TIMEOUT_SECONDS,
    "max_pool_connections": MAX_CONNECTIONS,
    "user_agent": USER_AGENT,  # botocore builds its own again for each request: 0.2 ms of 1.6
    "retries": {"total_max_attempts": 1, "mode": "standard"},  # retried here, where the error is understood
    # stores other than Amazon's do not all know the newer checksum trailers
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

Result = TypeVar("Result")
ChangeObserver = Callable[[str, int | None, int | None, float], None]
"""Called for every change with the key, its size before and after (None: no object), and when the request was begun."""


class S3Error(Exception):
    """An object could not be read or written. See the subclass for what to do."""


class ObjectMissing(S3Error):
    """There is no such object. The producer did not upload it, or it was cleaned up."""


class ObjectForbidden(S3Error):
    """Access to this object is denied. Grant the access key read and write permission on the bucket."""


class ObjectTooLarge(S3Error):
    """The object is larger than the limit it was to be read under."""


class StoreUnavailable(S3Error):
    """The store cannot be used now; the object is not to blame. Try again later."""


class StoreMisconfigured(StoreUnavailable):
    """The store refuses all our requests. Correct the named setting; trying again at once does not help."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class ObjectHead:
    """What is known of an object without its body. Metadata names are lower case."""

    key: str
    size_bytes: int
    content_type: str = "application/octet-stream"
    last_modified: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class S3Store:
    """One bucket. Every method raises S3Error and nothing else but CancelledError."""

    def __init__(self, settings: Settings) -> None:
        self.bucket = settings.s3_bucket
        self._endpoint = settings.s3_endpoint_url
        self._settings = settings
        self._encryption = encryption_headers(encryption_arguments(settings))
        self._client: Any = None
        self._objects: ObjectRequests
        self._resources = AsyncExitStack()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self.reachability = Reachability()
        self._watch: ChangeObserver | None = None
        self._sizes = Sizes()

    def add_observer(self, watch: ChangeObserver) -> None:
        """From now on, call `watch` for every `put` and `delete`, with the size of what it replaces."""
        self._watch = watch

    async def open(self) -> None:
        """Make the client; nothing is sent yet.

        Raises StoreMisconfigured if no keys are configured, SettingsError when S3_CA_FILE cannot be used.
        """
        if self._client is not None:
            return
        arguments = s3_arguments(self._settings, **_CONFIG)
        if not (arguments.get("aws_access_key_id", "-") and arguments.get("aws_secret_access_key", "-")):
            raise StoreMisconfigured(
                say("set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, one of them is empty, or S3_AUTH=role")
            )
        session = aioboto3.Session()
        client = await self._resources.enter_async_context(session.client("s3", **arguments))
        credentials = await s3_credentials(arguments, session)
        self._objects = ObjectRequests(self._settings, await bucket_url(client, self.bucket), credentials)
        self._resources.push_async_callback(self._objects.close)
        await self._objects.open(
            connections=MAX_CONNECTIONS,
            connect_seconds=CONNECT_TIMEOUT_SECONDS,
            read_seconds=READ_TIMEOUT_SECONDS,
            user_agent=USER_AGENT,
        )
        self._client = client

    async def close(self) -> None:
        """Give the connections back."""
        self._client = None
        await self._resources.aclose()

    async def ensure_bucket(self) -> bool:
        """Check that we may use the bucket. Create it if there is none; then return True.

        Raises StoreUnavailable, ObjectForbidden.
        """
        if await self.has_bucket():
            return False
        await self._call("put", None, lambda s3: s3.create_bucket(Bucket=self.bucket))
        log.info("bucket_created", bucket=self.bucket)
        return True

    async def has_bucket(self) -> bool:
        """Whether the bucket is there and may be used. Raises StoreUnavailable, ObjectForbidden."""
        try:
            # not HeadBucket: its errors have no body, so a wrong secret looks like a missing permission
            await self._call("list", None, partial(_list, Bucket=self.bucket, MaxKeys=1))
        except StoreMisconfigured as fault:
            if fault.code != _NO_BUCKET:
                raise
            return False
        return True

    async def head(self, key: str) -> ObjectHead:
        """Size, type and metadata. Raises ObjectMissing, ObjectForbidden, StoreUnavailable."""
        return await self._sized(key, self._call("head", key, lambda s3: self._head(s3, key)), _size_of_head)

    async def read(self, key: str, limit_bytes: int) -> bytes:
        """The whole body. Raises ObjectTooLarge without reading past the limit, else as `head`."""
        return await self._sized(key, self._call("get", key, lambda _: self._read(key, limit_bytes)), len)

    async def _sized(self, key: str, answer: Awaitable[Result], size: Callable[[Result], int]) -> Result:
        """Remember how large an object is, or that there is none."""
        try:
            found = await answer
        except ObjectMissing:
            self._sizes.note(key, None)
            raise
        self._sizes.note(key, size(found))
        return found

    async def put(
        self,
        key: str,
        body: bytes,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write an object, replacing what is there. Metadata must be ASCII. Raises as `head`."""
        headers = {"Content-Type": content_type, **metadata_headers(metadata or {}), **self._encryption}
        began, before = time.time(), await self._size(key)
        with metrics.S3_UPLOAD_DURATION.time():
            await self._call("put", key, lambda _: self._objects.put(key, body, headers))
        self._sizes.note(key, len(body))
        if self._watch is not None:
            self._watch(key, before, len(body), began)

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete objects. A missing one counts as deleted. Returns how many. Raises StoreUnavailable."""
        for start in range(0, len(keys), DELETE_BATCH):
            batch = keys[start : start + DELETE_BATCH]
            began, sizes = time.time(), [await self._size(key) for key in batch]
            if errors := await self.delete_unreported(batch):
                raise StoreUnavailable(
                    say(
                        "{errors_count} objects not deleted, the first: {first}",
                        errors_count=len(errors),
                        first=next(iter(errors.items())),
                    )
                )
            for key, before in zip(batch, sizes, strict=True):
                if self._watch is not None:
                    self._watch(key, before, None, began)
        return len(keys)

    async def delete_unreported(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete at most DELETE_BATCH objects for a caller that keeps the accounts itself.

        Returns the store's error codes for those it refuses to delete. Raises StoreUnavailable.
        """
        request = partial(
            _delete, Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        answer = await self._call("delete", None, request)
        errors = {error["Key"]: error.get("Code", "") for error in answer.get("Errors") or ()}
        for key in set(keys) - set(errors):
            self._sizes.note(key, None)
        return errors

    async def _size(self, key: str) -> int | None:
        """The size of the object that a write will replace, if there is a `watch`; None if there is no object."""
        if self._watch is None:
            return None
        if self._sizes.knows(key):
            return self._sizes[key]
        try:
            return (await self.head(key)).size_bytes
        except ObjectMissing:
            return None

    async def list(self, prefix: str) -> AsyncIterator[ObjectHead]:
        """Every object under a prefix, in the order of keys, page by page. Raises StoreUnavailable, ObjectForbidden."""
        token: dict[str, str] = {}
        while True:
            page = await self._call("list", None, partial(_list, Bucket=self.bucket, Prefix=prefix, **token))
            for item in page.get("Contents", ()):
                yield ObjectHead(item["Key"], item["Size"], last_modified=item["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def _head(self, s3: Any, key: str) -> ObjectHead:
        """Uses a GET of the first byte, because the body of its error says what is wrong.

        HEAD's error has no body: a missing bucket looks like a missing key, a wrong secret like a forbidden object, and
        Cloud.ru answers 500 for a missing key.
        """
        try:
            size_bytes, headers = await self._objects.first_byte(key)
        except ClientError as fault:
            if _code(fault) not in _EMPTY:
                raise
            answer = await s3.head_object(Bucket=self.bucket, Key=key)
            size_bytes, headers = 0, answer["ResponseMetadata"]["HTTPHeaders"]
        content_type = headers.get("content-type", "application/octet-stream")
        return ObjectHead(key, size_bytes, content_type, last_modified(headers), metadata_of(headers))

    async def _read(self, key: str, limit_bytes: int) -> bytes:
        content = await self._objects.read(key, limit_bytes)
        if content is None:
            raise ObjectTooLarge(say("{key} is larger than {limit_bytes} bytes", key=key, limit_bytes=limit_bytes))
        return content

    async def _call(self, operation: str, key: str | None, request: Callable[[Any], Awaitable[Result]]) -> Result:
        """One request with a slot, a deadline, and retries of temporary errors."""
        if key is not None and not usable_key(key):
            raise ObjectMissing(say("{key!r} is no key of an object", key=key[:200]))
        first: S3Error | None
        async with self._slots:
            try:
                return await self._counted(operation, self._attempt(key, request))
            except StoreUnavailable as fault:
                first = fault
            async for attempt in stamina.retry_context(  # only now: it costs as much as a fifth of a request
                _may_pass, attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=2.0
            ):
                with attempt:
                    if first is not None:
                        failed, first = first, None
                        raise failed
                    return await self._counted(operation, self._attempt(key, request))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _counted(self, operation: str, attempt: Awaitable[Result]) -> Result:
        try:
            answer = await attempt
        except (ObjectMissing, ObjectForbidden, ObjectTooLarge):
            _count(operation, "success")  # the store works; the error is its answer
            raise
        except S3Error:
            _count(operation, "error")
            raise
        _count(operation, "success")
        return answer

    async def _attempt(self, key: str | None, request: Callable[[Any], Awaitable[Result]]) -> Result:
        if self._client is None:
            raise StoreUnavailable(say("the S3 store is not open"))
        try:
            with self.reachability.call():
                async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                    result = await request(self._client)
        except ClientError as fault:
            raise self._noted(self._translated(fault, key)) from None
        except (BotoCoreError, ResponseParserError, HttpError, OSError, TimeoutError) as fault:
            reason = explain(fault, S3) or f"{type(fault).__name__}: {fault}"
            error = StoreUnavailable(
                say("{endpoint} does not answer: {reason}", endpoint=self._endpoint, reason=reason)
            )
            raise self._noted(error) from fault
        self.reachability.worked()
        return result

    def _noted(self, error: S3Error) -> S3Error:
        """Count an error about one object as an answer of a working store."""
        if isinstance(error, StoreUnavailable):
            self.reachability.failed(str(error))
        else:
            self.reachability.worked()
        return error

    def _translated(self, fault: ClientError, key: str | None) -> S3Error:
        code = _code(fault)
        status = fault.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if remedy := _MISCONFIGURED.get(code):
            return StoreMisconfigured(
                say(
                    "{endpoint}, bucket {bucket}: {remedy}", endpoint=self._endpoint, bucket=self.bucket, remedy=remedy
                ),
                code,
            )
        if code in _MISSING:
            return ObjectMissing(say("{key} is not there", key=key or self.bucket))
        if key is not None and code in _BAD_KEY:
            return ObjectMissing(
                say("the store takes {key!r} for no key of an object: {code}", key=key[:200], code=code)
            )
        if code in _FORBIDDEN:
            return ObjectForbidden(
                say("access to {key} is denied; check the key's permissions", key=key or self.bucket)
            )
        return StoreUnavailable(
            say(
                "{endpoint} answered {status} {code} to {operation_name}",
                endpoint=self._endpoint,
                status=status,
                code=code,
                operation_name=fault.operation_name,
            )
        )


def usable_key(key: str) -> bool:
    """Whether a key can name an object in every store. Keys come from outside, and a bad key must not look like an
    outage. Stores refuse empty and dotted segments or, worse, take them for a folder or another key.
    """
    segments = key.split("/")
    return (
        key.isprintable()  # no control characters, no lone surrogates
        and len(key.encode()) <= MAX_KEY_BYTES
        and not any(segment in ("", ".", "..") for segment in segments)
    )


def _code(fault: ClientError) -> str:
    return str(fault.response.get("Error", {}).get("Code", ""))


def _size_of_head(head: ObjectHead) -> int:
    return head.size_bytes


def _count(operation: str, result: str) -> None:
    metrics.S3_OPERATIONS.labels(operation=operation, result=result).inc()


def _may_pass(fault: Exception) -> bool:
    return isinstance(fault, StoreUnavailable) and not isinstance(fault, StoreMisconfigured)


async def _delete(s3: Any, **arguments: Any) -> Any:
    return await s3.delete_objects(**arguments)


async def _list(s3: Any, **arguments: Any) -> Any:
    return await s3.list_objects_v2(**arguments)
