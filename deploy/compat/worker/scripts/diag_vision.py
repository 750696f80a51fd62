"""`python3 -m worker.scripts.diag_vision --post-id X`: the old name of `vision diag`."""

from __future__ import annotations

import sys

from vision_app.cli import main

if __name__ == "__main__":
    main(["diag", *sys.argv[1:]], prog_name="vision")
