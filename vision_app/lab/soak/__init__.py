"""`vision soak`: a long run under load while workers are killed and services fail, and the account at its end.

Pure planning in `plan`, the parts played in `traffic`, `workers`, `chaos` and `operator`, one run in `run`, its tables
in `report`. The crash suite (`make crash`) is in `crash`, what it plays in `rounds` and `disturb`.
It uses services of its own on this machine, never those of `vision up`, and never the real GigaChat.
"""
