"""The wheel, in an environment that has nothing else."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from conftest import free_address

PACKAGE = pathlib.Path(__file__).parent.parent

# One rank, with the standard library alone.
RANK = """
import array, sys, halo
rank, rendezvous = int(sys.argv[1]), sys.argv[2]
with halo.Communicator(rank, 2, rendezvous=rendezvous) as communicator:
    floats = array.array("f", [rank + 1.0] * 1000)
    communicator.all_reduce(floats)
    everyone = bytearray(6)
    communicator.all_gather(b"abc" if rank == 0 else b"def", out=everyone)
    print(sum(floats), everyone.decode(), "torch" in sys.modules, "numpy" in sys.modules)
"""


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_without_any_other_package(tmp_path: pathlib.Path) -> None:
    cargo = f"{os.environ['PATH']}:{pathlib.Path.home() / '.cargo/bin'}"
    build = [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--out", tmp_path]
    run(*build, cwd=PACKAGE, env={**os.environ, "PATH": cargo})
    (wheel,) = tmp_path.glob("halo-*-cp310-abi3-*.whl")

    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", wheel)

    address = free_address()
    ranks = [
        subprocess.Popen([python, "-c", RANK, str(rank), address], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in ranks:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "3000.0 abcdef False False\n")
