"""`python -m vision_app worker`: the worker, as `faust -A vision_app.app worker` runs it."""

from __future__ import annotations

from . import app

if __name__ == "__main__":
    app.app.main()
