"""The base of every page: Faust's view, typed with our own app."""

from __future__ import annotations

from faust.web import View

from .worker import ServedWorker


class Page(View):
    """A view of the worker."""

    app: ServedWorker  # type: ignore[assignment]  # of Faust's own app type in its base
