"""The accountant on real services: a clean run is clean, and each fault planted into a store is noticed and named."""

from __future__ import annotations

from tests.integration.pipeline import Pipeline, picture, unique
from vision_app.accounting import Account, take_account
from vision_app.scenarios import never_uploaded


async def account_of(pipe: Pipeline, tenant: str) -> Account:
    return await take_account(pipe.settings, tenants=[tenant])


async def test_a_clean_run_has_no_discrepancy(pipe: Pipeline) -> None:
    tenant = unique("clean")
    since = await pipe.newest()
    shared = await pipe.upload(tenant, picture())
    posts = [f"{tag}-{tenant}" for tag in ("one", "twin", "both", "gone")]
    for post, media in zip(
        posts,
        (
            [shared],
            [shared],
            [shared, await pipe.upload(tenant, picture()), never_uploaded(tenant, "x")],
            [never_uploaded(tenant, "y")],
        ),
        strict=True,
    ):
        await pipe.publish(tenant, post, media)
    await pipe.announced(posts, since)
    await pipe.publish(tenant, posts[0], [shared])
    await pipe.idle()
    account = await account_of(pipe, tenant)
    assert account.discrepancies == []
    assert (account.inputs, account.posts, account.analyzed, account.skipped, account.missing) == (5, 4, 4, 1, 0)
    assert (account.events, account.calls, account.extra_calls) == (4, 2, 0)
    assert account.tokens_billed == account.tokens_ledger > 0
