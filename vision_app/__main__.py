"""`python -m vision_app worker`: the worker, as `faust -A vision_app.app worker` runs it; or several, supervised."""

from __future__ import annotations

import sys

from .settings import SettingsError
from .workers.command import several


def main() -> None:
    """Run a supervisor if VISION_WORKERS means several processes, else the worker in this one."""
    try:
        wish = several(sys.argv[1:])
    except SettingsError as fault:
        sys.exit(_refused(fault))
    if wish is not None:
        from .workers.supervisor import run

        sys.exit(run(wish))
    from . import app  # here, because it takes a second and 100 MB, which a supervisor does not need

    app.app.main()


def _refused(fault: SettingsError) -> int:
    print(fault, file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
