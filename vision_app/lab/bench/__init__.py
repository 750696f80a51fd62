"""`vision bench`: how long posts take and how much processor time they use, also while one tenant floods.

What is published in `plan`, one run in `run`, its tables in `report`. It uses its own services on this machine, never
those of `vision up`, and never the real GigaChat.
"""
