"""The chosen ports and generated keys that one home keeps across restarts. Mode 0600."""

from __future__ import annotations

import secrets

from pydantic import BaseModel, Field

from vision_app.stack import ports
from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home


class Instance(BaseModel):
    """Ports and keys of one home. Call `save` after taking new ones."""

    ports: dict[str, int] = Field(default_factory=dict)
    keys: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def load(cls, home: Home) -> Instance:
        if not home.instance.exists():
            return cls()
        return cls.model_validate_json(home.instance.read_bytes())

    def save(self, home: Home) -> None:
        write_atomically(home.instance, self.model_dump_json(indent=1))

    def port(self, name: str) -> int:
        """The port of `name`: the earlier one if it is free, otherwise a new one."""
        last = self.ports.get(name)
        if last is None or not ports.is_free(last):
            self.ports[name] = ports.choose(taken=set(self.ports.values()))
        return self.ports[name]

    def fixed_port(self, name: str) -> int:
        """The port of `name`, also if something listens there by now."""
        return self.ports.get(name) or self.port(name)

    def key(self, name: str, length: int = 24) -> str:
        """A random key of letters, digits, `-` and `_`, made at the first call and kept for later calls."""
        return self.keys.setdefault(name, secrets.token_urlsafe(length))
