"""`python -m vision_app.lab.crash_worker worker`: a worker with the crash points of the two variables.

See `crash_points`. The covered modules must not be imported before the points are installed.
"""

from __future__ import annotations

import os

from .crash_points import RAISING, VARIABLE, install

if __name__ == "__main__":
    install(os.environ.get(VARIABLE, ""), os.environ.get(RAISING, ""))
    from vision_app import app

    app.app.main()
