"""MediaPipe comes without what dsg does not use, and is whole for whoever does."""

from __future__ import annotations

import subprocess
import sys

from dsgcli.faces.mediapipe_start import put_off

SEE = """
import sys
from dsgcli.faces.mediapipe_start import UNUSED, load_mediapipe
mediapipe = load_mediapipe()
assert not set(UNUSED) & set(sys.modules), sys.modules.keys() & set(UNUSED)
import matplotlib.pyplot
assert mediapipe.solutions.drawing_utils.plt.figure is matplotlib.pyplot.figure
"""


def test_mediapipe_loads_no_plots_until_they_are_wanted():
    done = subprocess.run([sys.executable, "-c", SEE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_put_off_is_loaded_when_it_is_used(tmp_path, monkeypatch):
    (tmp_path / "heavy").mkdir()
    (tmp_path / "heavy" / "__init__.py").write_text("ONE = 1\n")
    (tmp_path / "heavy" / "part.py").write_text("TWO = 2\n")
    (tmp_path / "user.py").write_text("import heavy\nimport heavy.part as part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with put_off(("heavy", "heavy.part")):
        import user  # type: ignore[import-not-found]
    assert not {"heavy", "heavy.part"} & set(sys.modules)
    assert (user.part.TWO, user.heavy.ONE) == (2, 1)
    assert "heavy.part" in sys.modules


def test_what_is_there_already_is_not_put_off():
    import json

    with put_off(("json",)):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json
