"""`from feature_flags import feature_flags`, as the acceptance guide has it: the flags of the settings in force."""

from __future__ import annotations

from vision_app.settings import load_settings


class FeatureFlags:
    """Read again at each access. Raises SettingsError when a setting has an unusable value."""

    @property
    def vision_enabled(self) -> bool:
        """FEATURE_VISION_ENABLED."""
        return load_settings().feature_vision_enabled

    @property
    def neo4j_enabled(self) -> bool:
        """FEATURE_NEO4J_ENABLED."""
        return load_settings().feature_neo4j_enabled


feature_flags = FeatureFlags()
