"""The Russian versions of the texts, by the English text. A test compares them with what the commands can say."""

from __future__ import annotations

from .audit import RU as AUDIT
from .click import RU as CLICK
from .commands import RU as COMMANDS
from .forms import Forms
from .help import RU as HELP
from .installation import RU as INSTALLATION
from .laboratory import RU as LABORATORY
from .money import RU as MONEY
from .operations import RU as OPERATIONS
from .posts import RU as POSTS
from .services import RU as SERVICES
from .settings import RU as SETTINGS
from .stack import RU as STACK
from .worker import RU as WORKER

RUSSIAN: dict[str, str | Forms] = {
    **AUDIT,
    **CLICK,
    **COMMANDS,
    **HELP,
    **INSTALLATION,
    **LABORATORY,
    **MONEY,
    **OPERATIONS,
    **POSTS,
    **SERVICES,
    **SETTINGS,
    **STACK,
    **WORKER,
}
