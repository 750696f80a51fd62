"""`vision soak`: a long run under load while workers are killed and services fail, with an account at the end.

The plan is in `plan` (pure), the actors are in `traffic`, `workers`, `chaos` and `operator`, one run is in `run`, its
tables in `report`. The crash suite (`make crash`) is in `crash`, its rounds and disturbances in `rounds` and `disturb`.
It uses its own services on this machine, never those of `vision up`, and never the real GigaChat.
"""
