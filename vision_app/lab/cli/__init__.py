"""The laboratory's commands. `vision_app.cli` names them."""
