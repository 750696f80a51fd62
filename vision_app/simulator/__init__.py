"""The GigaChat simulator: the vendor's HTTP API as the network shows it, on loopback, without the vendor.

It opens the picture that it receives and answers from its contents, keeps a bill per client, and misbehaves on request.
It is a tool for demos and tests, not a model: the worker must not import it, and it imports nothing of the worker.
"""

from vision_app.simulator.config import SimulatorConfig
from vision_app.simulator.server import RunningSimulator, create_app, running_simulator

__all__ = ["RunningSimulator", "SimulatorConfig", "create_app", "running_simulator"]
