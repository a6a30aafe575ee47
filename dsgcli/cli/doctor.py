"""`dsg doctor`: what this machine has, what is in force, what is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dsgcli.cli.flags import expand
from dsgcli.cli.options import Backend, Device, OutputFlags, Precision, Pretrained
from dsgcli.cli.settings import flags_of, read_settings, unknown_variables, user_file
from dsgcli.console import Cell, Table, plain

if TYPE_CHECKING:
    from dsgcli.doctor import Report

EXAMPLES = """
Examples:
  dsg doctor
  dsg doctor --json > machine.json
"""


@expand
def doctor(
    ctx: typer.Context,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = "auto",
    backend: Backend = "auto",
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure the speed for two seconds.")
    ] = True,
    *,
    talk: OutputFlags,
) -> None:
    """Check the installation: machine, settings and problems.

    The last lines name each problem and its solution.
    """
    from dsgcli.doctor import SPEED_TEST_S, examine

    flags = flags_of(ctx.find_root().command)
    settings = read_settings(flags, os.environ, Path.cwd())
    report = examine(
        pretrained,
        device=device,
        precision=precision,
        backend=backend,
        speed_test_s=SPEED_TEST_S if speed else 0,
    )
    in_force = [{"key": s.key, "value": s.value, "from": s.origin} for s in settings.in_force()]
    wrong = [str(problem) for problem in report.problems]
    wrong += [*settings.problems, *unknown_variables(flags, os.environ)]
    document = plain(report)
    assert isinstance(document, dict)
    document |= {"settings": in_force, "problems": wrong, "settings_file": user_file()}
    talk.terminal.show(document, *_parts(report, in_force, wrong))


def _parts(report: Report, in_force: list[dict[str, Any]], wrong: list[str]) -> list[Table | str]:
    """The report as text: facts, models, settings, and problems last."""
    facts = Table(("", ""), [(name, text) for name, text in _facts(report).items() if text])
    parts: list[Table | str] = [facts]
    if report.models:
        used = [model for model in report.models if not model["shadowed"]]
        rows: list[tuple[Cell, ...]] = [(m["name"], m["kind"], m["path"]) for m in used]
        parts.append(Table(("model", "kind", "file"), rows))
        if more := len(report.models) - len(used):
            parts.append(f"{more} more of the same names in other places: dsg models list")
    if in_force:
        settings = [(s["key"], str(s["value"]), s["from"]) for s in in_force]
        parts.append(Table(("setting", "value", "from"), settings))
    parts.append("\n".join(f"- {sentence}" for sentence in wrong) or "Nothing is wrong.")
    return parts


def _facts(report: Report) -> dict[str, str]:
    have = [f"{codec} ({encoder})" for codec, encoder in report.codecs.items() if encoder]
    lack = [codec for codec, encoder in report.codecs.items() if not encoder]
    packages = [f"{name} {number or 'missing'}" for name, number in report.packages.items()]
    return {
        "dsg": f"{report.version}, Python {report.python}, {report.system}",
        "installed": f"{report.installed}; to add openvino: {report.extras_by}",
        "packages": ", ".join(packages),
        "device": f"{report.device}{f' ({report.gpu})' if report.gpu else ''}",
        "precision": f"{report.precision}: {report.precision_reason}",
        "backend": f"{report.backend}: {report.backend_reason}; here: {', '.join(report.backends)}",
        "threads": f"{report.threads} of {report.cores} cores",
        "memory": f"{report.free_memory_gb} of {report.memory_gb} GB free",
        "disk": f"{report.free_disk_gb} GB free here",
        "video": ", ".join(have) + (f"; not here: {', '.join(lack)}" if lack else ""),
        "faces": report.face_detector or "",
        "speed": ", ".join(_rate(name, value) for name, value in report.speed.items()),
    }


def _rate(name: str, value: float) -> str:
    what, _, unit = name.rpartition("_")
    return (
        f"{value:g} portraits/s in {what}" if unit == "portraits" else f"{value:g} GFLOP/s {what}"
    )
