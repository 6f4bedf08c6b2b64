"""The tiny model comes out the same every time."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: `make setup` installs it")


def make(folder: pathlib.Path) -> str:
    command = [sys.executable, "-m", "halo.tiny_model", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_two_folders_hold_the_same_bytes_and_a_second_run_leaves_them(tmp_path: pathlib.Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    make(one)
    make(other)
    files = sorted(path.name for path in one.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert files == sorted(path.name for path in other.iterdir())
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    assert "there already" in make(one)
