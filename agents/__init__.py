"""The Faust agents of vision_app."""
