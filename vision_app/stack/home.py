"""The paths of the embedded stack's files (`.vision/`) and of the shared cache of downloads. Only names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folder of one embedded stack."""

    root: Path

    @property
    def env(self) -> Path:
        """The variables that lead the worker and the commands to the embedded services; a settings source."""
        return self.root / "env"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def instance(self) -> Path:
        """Ports and keys that stay the same across restarts."""
        return self.root / "instance.json"

    @property
    def orders(self) -> Path:
        """What was ordered of single workers; see `orders.py`."""
        return self.root / "orders.json"

    def data(self, service: str) -> Path:
        return self.root / "data" / service

    def log(self, service: str) -> Path:
        return self.root / "logs" / f"{service}.log"


def cache_folder() -> Path:
    """Downloads shared by all homes of this user: `VISION_CACHE`, else `~/.cache/vision_app`."""
    return Path(os.environ.get("VISION_CACHE") or Path.home() / ".cache" / "vision_app").absolute()
