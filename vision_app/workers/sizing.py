"""How many worker processes help on a machine. Pure: `machine.py` looks what there is.

One process uses one core (Python's lock), and its decoders use others now and then: of each four cores one is left to
them, to the kernel and to the supervisor. So the decoders have a core when they need one, and two cores are both used.
A process without a partition has nothing to do. Each must have room for a picture of the largest size in each of its
decoders, or the kernel ends one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from vision_app.settings import Settings

from .machine import Machine

CORES_PER_SPARE_ONE = 4
PROCESS_BYTES = 320 * 1024**2
"""Of one worker process with a long uptime, without its decoders; measured: docs/operating.md."""
SUPERVISOR_BYTES = 128 * 1024**2


@dataclass(frozen=True)
class Size:
    """How many processes, and what set the number, in words. `doubt`: why this many may be too many; "" if not."""

    processes: int
    why: str
    doubt: str = ""


def size(settings: Settings, machine: Machine) -> Size:
    """The number of worker processes that VISION_WORKERS means on this machine."""
    partitions, decoders = settings.kafka_topic_partitions, settings.vision_decoders
    each = PROCESS_BYTES + decoders * settings.vision_decoding_memory_mb * 1024**2
    room = max(1, (machine.memory_bytes - SUPERVISOR_BYTES) // each)
    memory = f"{machine.memory_bytes / 1024**3:.1f} GiB of memory, {each / 1024**3:.1f} for each process"
    if settings.vision_workers != "auto":
        asked = int(settings.vision_workers)
        doubt = f"there is room for {room}: {memory}" if room < asked else ""
        if asked > partitions:
            return Size(partitions, f"VISION_WORKERS is {asked}, and KAFKA_TOPIC_PARTITIONS {partitions}", doubt)
        return Size(asked, f"VISION_WORKERS is {asked}", doubt)
    whole = max(1, int(machine.cores))
    bounds = [
        (whole - whole // CORES_PER_SPARE_ONE, f"{machine.cores:g} cores"),
        (partitions, f"KAFKA_TOPIC_PARTITIONS is {partitions}"),
        (room, memory),
    ]
    return Size(*min(bounds, key=lambda bound: bound[0]))
