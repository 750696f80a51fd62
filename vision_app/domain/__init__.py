"""The pure cores: decisions without input and output."""
