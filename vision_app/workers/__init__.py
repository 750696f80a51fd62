"""Several worker processes as one worker: VISION_WORKERS. One supervisor, one API, one page of metrics.

Not here: what a worker does (`vision_app.app`), and how a process is kept running (`vision_app.stack.supervised`).
"""
