"""The laboratory's commands. `vision_app.cli` lists them."""
