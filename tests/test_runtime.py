"""Parallel maps: what a process is told, and from where."""

from __future__ import annotations

from pathlib import Path

from dsgcli.runtime import parallel_map


def test_relative_paths_mean_the_same_in_processes_kept_from_before(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        paths = [Path(f"{folder}-{n}") for n in range(3)]
        for path in paths:
            path.write_text(folder)
        assert list(parallel_map(Path.is_file, paths, workers=2)) == [True] * 3
