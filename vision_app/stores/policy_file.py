"""The policy file: read at start and again when the file changes. A faulty file never replaces the policy in force.

Not here: what the file may contain and what it decides (`domain/policy.py`).
"""

from __future__ import annotations

from pathlib import Path

import structlog

import vision_app
from vision_app.domain.policy import Policy, PolicyError, load_policy
from vision_app.domain.policy_text import MAX_BYTES, too_large
from vision_app.telemetry import metrics
from vision_app.texts import say

log = structlog.get_logger(__name__)

_PACKAGE = Path(vision_app.__file__).parent
_NAME = Path("config", "vision_policy.yml")

POLICY_SECONDS = 2.0
"""Between two looks at the file, so that a saved file is told of, also as refused, before the next post comes."""

Stamp = tuple[int, int, int]  # inode, modification time in ns, size


def default_policy_path() -> Path:
    """The policy that is shipped: inside the installed package, or in the repository's `config/`."""
    installed = _PACKAGE / _NAME
    return installed if installed.exists() else _PACKAGE.parent / _NAME


def read_policy(path: Path) -> Policy:
    """Read and validate a policy file. Raises PolicyError, also when the file cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise PolicyError(too_large(str(path)))
        text = content.decode("utf-8")
    except OSError as fault:
        raise PolicyError(
            say(
                "{path}: cannot be read: {strerror}; set VISION_POLICY_CONFIG_PATH to a readable file",
                path=path,
                strerror=fault.strerror,
            )
        ) from fault
    except UnicodeDecodeError as fault:
        raise PolicyError(
            say("{path}: is not UTF-8 (byte {start}); save it as UTF-8", path=path, start=fault.start)
        ) from fault
    return load_policy(text, str(path))


class PolicyFile:
    """The policy in force. `path` is VISION_POLICY_CONFIG_PATH; None is the shipped file.

    The constructor raises PolicyError when there is no usable policy to begin with.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_policy_path()
        self._stamp = self._look()
        self.policy = read_policy(self.path)
        self._note()

    def refresh(self) -> bool:
        """Read a changed file; True if the policy was replaced. A faulty file is logged once and not used.

        It is cheap if nothing changed (one stat), so it is called for every event, and every POLICY_SECONDS.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.policy = read_policy(self.path)
        except PolicyError as fault:
            metrics.POLICY_RELOADS.labels("refused").inc()
            log.error(
                "policy_file_refused",
                faults=str(fault).splitlines(),
                next_step=say("correct the lines named, then run: vision policy check {path}", path=self.path),
            )
            return False
        metrics.POLICY_RELOADS.labels("loaded").inc()
        log.info("policy_file_loaded", path=str(self.path))
        self._note()
        return True

    def _look(self) -> Stamp | None:
        """The stamp that distinguishes versions of the file; None if the file cannot be found."""
        try:
            found = self.path.stat()
        except OSError:
            return None  # refresh() then fails to read it and says so
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _note(self) -> None:
        for note in self.policy.notes():
            log.warning("policy_key_without_effect", path=str(self.path), note=note)
