"""`dsg doctor`: what this machine has, what is in force, what is wrong."""

from __future__ import annotations

from dsgcli.cli.flags import expand
from dsgcli.cli.options import Talk
from dsgcli.cli.pending import not_available

EXAMPLES = """
Examples:
  dsg doctor
  dsg doctor --json > machine.json
"""


@expand
def doctor(talk: Talk) -> None:
    """Say what this machine has, which settings are in force, and what is wrong."""
    not_available("doctor")
