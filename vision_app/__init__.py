"""vision_app: looks at every picture posted to a Telegram channel and tells the rest of an assistant what is on it."""

__version__ = "0.1.0"
