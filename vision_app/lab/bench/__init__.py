"""`vision bench`: how long posts take and what they cost the processor, also while one tenant floods.

What is published in `plan`, one run in `run`, its tables in `report`. It uses services of its own on this machine,
never those of `vision up`, and never the real GigaChat.
"""
