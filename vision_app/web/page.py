"""The base of every page: Faust's view, with our own app behind it."""

from __future__ import annotations

from typing import Any

from faust.web import View


class Page(View):
    """`app` is the worker (`vision_app.app.VisionApp`)."""

    app: Any
