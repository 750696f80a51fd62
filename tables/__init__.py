"""The Faust tables of vision_app."""
