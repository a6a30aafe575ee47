"""What a command says whose library function this version does not have yet."""

from __future__ import annotations

from typing import NoReturn

from dsgcli import __version__
from dsgcli.errors import UsageError


class NotAvailableError(UsageError):
    """The command is known, and this version cannot do it."""


def not_available(command: str) -> NoReturn:
    """Raise NotAvailableError for `command`."""
    raise NotAvailableError(f"`dsg {command}` is not yet available in this version ({__version__})")
