"""docs/reference/settings.md says what vision_app/settings.py says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pydantic import SecretStr

from vision_app.settings import Settings, variables

ROOT = Path(__file__).parents[2]

_spec = importlib.util.spec_from_file_location("settings_reference", ROOT / "scripts" / "settings_reference.py")
assert _spec
assert _spec.loader
settings_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(settings_reference)


def test_the_page_is_made_from_the_settings() -> None:
    assert settings_reference.PAGE.read_text("utf-8") == settings_reference.page(), "run make reference"


def test_every_setting_has_a_description_and_is_on_the_page() -> None:
    described = dict(settings_reference.descriptions())
    assert described.keys() == Settings.model_fields.keys()
    assert [name for name, (_, text) in described.items() if not text.endswith(".")] == []
    named = [variable.upper() for field in Settings.model_fields for variable in variables(field)]
    assert [variable for variable in named if f"`{variable}`" not in settings_reference.page()] == []


def test_no_default_of_a_secret_is_on_the_page() -> None:
    secrets = {n: f.default.get_secret_value() for n, f in Settings.model_fields.items() if f.annotation is SecretStr}
    assert len(secrets) > 8
    assert [name for name, value in secrets.items() if value and value in settings_reference.page()] == []
