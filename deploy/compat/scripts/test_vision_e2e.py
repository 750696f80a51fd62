"""`test_vision_e2e.py [--post-id X]`: the old name of `vision e2e`. Not a test module of this repository."""

from __future__ import annotations

import sys

from vision_app.cli import main

if __name__ == "__main__":
    main(["e2e", *sys.argv[1:]], prog_name="vision")
