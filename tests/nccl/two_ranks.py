"""Two ranks of real NCCL on one NVIDIA GPU, through halo's net plugin.

Each process has an NCCL_HOSTID of its own, so that NCCL takes them for two hosts and uses the network. Collectives and
send/receive are compared with a reference, and the plugin's counters must account for the bytes. Without an NVIDIA GPU,
or without torch for CUDA and a network to fetch it from, nothing can be tried: it says so in one line and ends with
status 77, which is neither success nor failure.

    python tests/nccl/two_ranks.py --library target/release/libnccl-net-halo.so
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

NOT_TRIED = 77
RANKS = 2
# Elements: one, an odd number, what LL carries, what Simple carries in several steps.
COUNTS = (1, 1023, 16 << 10, 4 << 20)
# What every rank must send, and receive, at the least: in each of the four operations one of its arrays, of 4 bytes an
# element. (A ring sends an all-reduced array of two ranks in two halves, a tree whole; LL sends twice the bytes.)
LEAST_BYTES = 4 * 4 * sum(COUNTS)
CACHE = pathlib.Path(__file__).resolve().parents[2] / ".cache" / "nccl"


def gpu() -> str | None:
    """The first NVIDIA GPU's name, as the driver tells it."""
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = answer.stdout.strip().splitlines()
    return names[0] if answer.returncode == 0 and names else None


class Missing(Exception):
    """What there is not, in one line."""


def has_torch(python: str) -> bool:
    """Whether this Python has torch, and torch sees the GPU."""
    probe = [python, "-c", "import torch; assert torch.cuda.is_available()"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def interpreter() -> str:
    """A Python with torch for CUDA: this one, or one made for the purpose."""
    if has_torch(sys.executable):
        return sys.executable
    python = CACHE / "bin" / "python"
    steps = [[str(python), "-m", "pip", "install", "--quiet", "torch", "numpy"]]
    if not python.exists():
        steps.insert(0, [sys.executable, "-m", "venv", str(CACHE)])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            why = said[-1] if said else f"status {done.returncode}"
            raise Missing(f"torch for CUDA is not installed, and cannot be fetched ({' '.join(step[1:4])}: {why})")
    if not has_torch(str(python)):
        raise Missing(f"torch in {CACHE} sees no CUDA device: is the driver new enough for it?")
    return str(python)


def rank(number: int, store: str) -> None:
    """One rank: every collective against its reference."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(0)
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=number, world_size=RANKS)

    def values(owner: int, count: int) -> torch.Tensor:
        # Small integers: sums are exact in every order.
        return ((torch.arange(count, device="cuda") * 7 + owner * 13) % 61).to(torch.float32)

    for count in COUNTS:
        mine, all_ranks = values(number, count), [values(owner, count) for owner in range(RANKS)]
        total = torch.stack(all_ranks).sum(0)

        reduced = mine.clone()
        dist.all_reduce(reduced)
        assert torch.equal(reduced, total), f"all_reduce of {count}"

        gathered = torch.empty(RANKS * count, device="cuda")
        dist.all_gather_into_tensor(gathered, mine)
        assert torch.equal(gathered, torch.cat(all_ranks)), f"all_gather of {count}"

        wide = [values(owner, RANKS * count) for owner in range(RANKS)]
        scattered = torch.empty(count, device="cuda")
        dist.reduce_scatter_tensor(scattered, wide[number])
        part = torch.stack(wide).sum(0)[number * count : (number + 1) * count]
        assert torch.equal(scattered, part), f"reduce_scatter of {count}"

        received = torch.empty(count, device="cuda")
        other = 1 - number
        operations = [dist.P2POp(dist.isend, mine, other), dist.P2POp(dist.irecv, received, other)]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        torch.cuda.synchronize()
        assert torch.equal(received, all_ranks[other]), f"send and receive of {count}"
    torch.cuda.synchronize()
    dist.destroy_process_group()
    print(f"rank {number}: {len(COUNTS)} sizes of 4 operations, every element right; NCCL {torch.cuda.nccl.version()}")


def main() -> int:
    """Both ranks, then the counters."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--library", type=pathlib.Path, default="target/release/libnccl-net-halo.so")
    arguments.add_argument("--rank", type=int)
    arguments.add_argument("--store")
    given = arguments.parse_args()
    if given.rank is not None:
        rank(given.rank, given.store)
        return 0
    name = gpu()
    if name is None:
        print("NOT TRIED: this machine has no NVIDIA GPU (nvidia-smi finds none)")
        return NOT_TRIED
    # Its name stays: the core knows a plugin by it.
    library = given.library.absolute()
    if not library.exists():
        print(f"{library} is not there: run `make build` first", file=sys.stderr)
        return 1
    try:
        python = interpreter()
    except Missing as missing:
        print(f"NOT TRIED: {missing}")
        return NOT_TRIED
    with tempfile.TemporaryDirectory() as folder:
        logs = [pathlib.Path(folder) / f"log-{number}" for number in range(RANKS)]
        processes = []
        for number in range(RANKS):
            environment = os.environ | {
                "NCCL_HOSTID": f"halo-{number}",
                "NCCL_NET_PLUGIN": str(library),
                "NCCL_NET": "halo",
                "NCCL_DEBUG": "INFO",
                "NCCL_DEBUG_FILE": str(logs[number]),
                "NCCL_SOCKET_IFNAME": "lo",
                "HALO_TRANSPORT": os.environ.get("HALO_TRANSPORT", "tcp"),
                "HALO_PLUGIN_STATS_FILE": f"{folder}/statistics-{number}",
            }
            command = [python, __file__, "--rank", str(number), "--store", f"{folder}/store"]
            processes.append(subprocess.Popen(command, env=environment))
        try:
            statuses = [process.wait(timeout=600) for process in processes]
        finally:
            for process in processes:
                process.kill()
        logged = [log.read_text() if log.exists() else "" for log in logs]
        if any(statuses):
            print("\n".join(logged), file=sys.stderr)
            return 1
        for number, text in enumerate(logged):
            lines = [line for line in text.splitlines() if "halo" in line]
            print("\n".join(lines[:6]))
            if not any("Loaded net plugin halo" in line for line in lines):
                print(f"rank {number} did not load the plugin", file=sys.stderr)
                return 1
        for number in range(RANKS):
            devices = json.loads(pathlib.Path(f"{folder}/statistics-{number}").read_text())
            sent = sum(device["sent_bytes"] for device in devices)
            received = sum(device["received_bytes"] for device in devices)
            print(f"rank {number}: {sent} bytes sent and {received} received through halo")
            if min(sent, received) < LEAST_BYTES:
                print(f"the operations move {LEAST_BYTES} bytes: not all went through halo", file=sys.stderr)
                return 1
    print(f"two ranks on {name}: good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
