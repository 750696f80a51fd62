"""What an operator wants of the workers of a running stack: a file that commands write and the supervisor follows.

`vision worker stop|start|restart` and `vision up --workers` write it. It says what should be, not what to do, so it can
be read any number of times. A new supervisor begins without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import BaseModel, Field, ValidationError

from vision_app.stack.files import write_atomically
from vision_app.stack.home import Home


class Order(BaseModel):
    """One worker. `listed`: it stays in `vision status` while it does not run; `restarts`: how many were asked for."""

    run: bool = True
    listed: bool = True
    restarts: int = 0


class Orders(BaseModel):
    """All workers that were ever ordered about, by their numbers."""

    workers: dict[int, Order] = Field(default_factory=dict)


def read_orders(home: Home) -> Mapping[int, Order]:
    """Empty if there are none."""
    try:
        return Orders.model_validate_json(home.orders.read_bytes()).workers
    except (FileNotFoundError, ValidationError):  # the latter: written by another version
        return {}


def change_orders(home: Home, numbers: list[int], change: Callable[[Order], Order]) -> None:
    """Change the orders of these workers."""
    orders = dict(read_orders(home))
    orders |= {number: change(orders.get(number, Order())) for number in numbers}
    write_atomically(home.orders, Orders(workers=orders).model_dump_json(indent=1))


def forget_orders(home: Home) -> None:
    """For a new supervisor: its command line says how many workers run."""
    home.orders.unlink(missing_ok=True)
