"""The models that the simulator offers, and which of them see pictures. The list is from a recording of 2026-01-21."""

from __future__ import annotations

from typing import Any

from vision_app.simulator.errors import api_error

_VISION = ("GigaChat-2-Max", "GigaChat-2-Pro", "GigaChat-Max", "GigaChat-Pro", "GigaChat-3-Ultra")
_BLIND = ("GigaChat", "GigaChat-2", "GigaChat-Plus")
_OTHERS = {
    "GigaFilter": "filter",
    "GigaCheckClassification": "aicheck",
    "GigaCheckDetection": "aicheck",
    "Embeddings": "embedder",
    "Embeddings-2": "embedder",
    "EmbeddingsGigaR": "embedder",
}
_VERSION = "2.0.30.01"

_CHAT = {name: name in _VISION for name in (*_BLIND, *_VISION)}
_CHAT |= {
    f"{name}-preview": has_vision
    for name, has_vision in _CHAT.items()
    if name not in ("GigaChat-Plus", "GigaChat-3-Ultra")
}


def listing() -> list[dict[str, Any]]:
    """All models, as `GET /models` lists them."""
    kinds = dict.fromkeys(_CHAT, "chat") | _OTHERS
    return [{"id": name, "object": "model", "owned_by": "salutedevices", "type": kind} for name, kind in kinds.items()]


def find(name: str) -> dict[str, Any]:
    """One model. Raises ApiError 404."""
    for model in listing():
        if model["id"] == name:
            return model
    raise api_error(404, "No such model")


def chat_model(name: str) -> str:
    """The chat model called `name` or `name:version`. Raises ApiError 404."""
    base = name.partition(":")[0]
    if base not in _CHAT:
        raise api_error(404, "No such model")
    return base


def has_vision(name: str) -> bool:
    """Whether the model sees attached pictures."""
    return _CHAT[name]


def versioned(name: str) -> str:
    """The name with its version, as answers carry it."""
    return f"{name}:{_VERSION}"
