"""Event models under their old names."""
