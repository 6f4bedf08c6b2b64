"""The examples, run as their first lines say."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

from conftest import free_address

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def finish(process: subprocess.Popen[str]) -> str:
    try:
        out, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, err
    return out


def start(*command: object) -> subprocess.Popen[str]:
    words = [sys.executable, *map(str, command)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_all_reduce() -> None:
    address = free_address()
    outputs = [finish(rank) for rank in [start(EXAMPLES / "all_reduce.py", rank, 2, address) for rank in range(2)]]
    for rank, output in enumerate(outputs):
        assert re.fullmatch(rf"rank {rank}: sum 3, rank {1 - rank} on \S+ by shm\n", output), output


def test_training_under_torchrun() -> None:
    run = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, EXAMPLES / "train.py")
    output = finish(run)
    loss = float(re.search(r"loss after 50 steps: (\S+)", output)[1])
    assert loss < 0.01 and "rank 1 by shm" in output, output
    # One per step for the gradients, and the last one of the loss.
    assert re.search(r"^51 x all_reduce", output, re.MULTILINE), output
