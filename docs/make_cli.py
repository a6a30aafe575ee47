"""Write docs/cli.md from the commands themselves:  python docs/make_cli.py

A test fails while the page is not what this writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from dsgcli.cli.app import build_app

PAGE = Path(__file__).parent / "cli.md"

INTRODUCTION = """\
# Command line

<!-- Written by docs/make_cli.py from the commands; change them, not this page. -->

`dsg COMMAND --help` says the same as this page, with your own settings as the defaults.
A flag may be written with underscores (`--preserve_color`), as the paper's scripts do; `--style_id`
stands for `--exemplar` and `--trunc` for `--truncation`.

## Where output goes

Results go to stdout; progress, notes, warnings and errors to stderr. With `--json`, stdout is one
JSON document: the result, or `{"error": {"type", "message"}, "exit_code"}`. With `--progress json`,
stderr has one event a line (`begin`, `advance`, `end`, `note`, `warning`). Bars and colors appear
on a terminal only, colors never with `NO_COLOR` set.

## Exit codes

| code | meaning |
|-----:|---------|
| 0 | done |
| 1 | failed while running: a file that cannot be read or written, memory, a bug |
| 2 | wrong usage: a flag, a name, a setting, an input that is not there, an output that is |
| 3 | no face found |
| 4 | a model is missing, corrupt, or of the wrong kind |
| 5 | some files of several failed; the others are done |
| 130 | interrupted with Ctrl-C (143 by SIGTERM, 129 by SIGHUP) |

## Settings

Every flag can be set for good, except `--json`, `--input` and `--output`. The first that says
something wins:

1. the command line
2. the environment: `DSG_DEVICE=cpu` for all commands, `DSG_STYLIZE_CRF=20` for one
3. `dsg.toml` in the working folder
4. `dsg.toml` of the user: in `DSG_HOME` if that is set, else in the platform's configuration folder
5. the default

```toml
device = "cpu"        # all commands that have --device

[stylize]             # one command
style = "arcane:12"
crf = 20

[models.pull]
offline = true
```

Unknown keys are reported all at once. `dsg doctor` shows what is in force and where it came from.

Two variables are about folders: `DSG_HOME` holds the models and settings of the user, in place of
the platform's folders; `DSG_PRETRAINED` is a folder of models to look in first.

## Shell completion

`dsg --install-completion` installs it for the current shell; names of styles and exemplars are
completed too.
"""


def page() -> str:
    """The whole page, at 80 columns and without settings of this machine."""
    os.environ["COLUMNS"] = "80"
    parts = [INTRODUCTION, "## Commands\n"]
    for words, context in _contexts(get_command(build_app()), "dsg", None):
        parts.append(f"### {words}\n\n```text\n{context.get_help().strip()}\n```\n")
    return "\n".join(parts)


def _contexts(command: Any, words: str, parent: Any) -> Iterator[tuple[str, Any]]:
    """Every command with a context to ask for its help."""
    settings = command.context_settings
    context = command.context_class(command, info_name=words.split()[-1], parent=parent, **settings)
    yield words, context
    for name, below in getattr(command, "commands", {}).items():
        yield from _contexts(below, f"{words} {name}", context)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
