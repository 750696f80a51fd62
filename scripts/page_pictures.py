"""Make the pictures of docs/page.md from a running demo: `vision demo`, then `python scripts/page_pictures.py`.

Needs Debian's Chromium (`make tools`). The worker's address is the first argument; default: that of the demo.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import urlencode

import httpx
from PIL import Image
from playwright.async_api import async_playwright

FOLDER = Path(__file__).parents[1] / "docs" / "media"
URL = "http://127.0.0.1:8000"
COLORS = 64
"""Few colours suffice for text, and keep the files small."""


async def make(url: str) -> None:
    """Write the pictures. Raises httpx's errors without a worker, StopIteration without a post of several pictures."""
    program = shutil.which("chromium")
    if program is None:
        raise SystemExit("chromium is not installed; as root on Debian: make tools")
    async with httpx.AsyncClient(trust_env=False) as client:
        posts = (await client.get(f"{url}/api/v1/posts", params={"limit": 50})).raise_for_status().json()["posts"]
    several = next(one for one in posts if one["picture_count"] > 1)
    post = urlencode({name: several[name] for name in ("tenant_id", "post_id")})
    views = {"page-flow": "/ui", "page-posts": "/ui/posts", "page-post": f"/ui/post?{post}", "page-cost": "/ui/cost"}
    FOLDER.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=program, args=options)
        page = await (await browser.new_context(locale="en", viewport={"width": 1100, "height": 900})).new_page()
        for name, path in views.items():
            await page.goto(url + path, wait_until="networkidle")
            for image in await page.locator("img.thumb").all():
                await image.scroll_into_view_if_needed()
                await image.evaluate("image => image.decode()")
            await page.evaluate("scrollTo(0, 0)")
            target = FOLDER / f"{name}.png"
            await page.screenshot(path=target, clip={"x": 0, "y": 0, "width": 1100, "height": 1150}, full_page=True)
            Image.open(target).quantize(COLORS).save(target, optimize=True)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(make(sys.argv[1] if len(sys.argv) > 1 else URL))
