"""One rank of a Gloo all-reduce (PyTorch), measured as every other peer is: see benches/README.md.

    all_reduce_gloo.py RANK WORLD PORT BYTES:ITERATIONS...

Gloo travels over TCP on the interface named by GLOO_SOCKET_IFNAME.
"""

import os
import sys
import time

import torch
import torch.distributed as dist


def measure(rank: int, size: int, iterations: int) -> None:
    values = torch.ones(size // 2, dtype=torch.bfloat16)
    for _ in range(iterations // 10 + 2):
        dist.all_reduce(values)
    dist.barrier()
    own = torch.zeros(iterations, dtype=torch.float64)
    for at in range(iterations):
        start = time.perf_counter()
        dist.all_reduce(values)
        own[at] = time.perf_counter() - start
    dist.all_reduce(own, op=dist.ReduceOp.MAX)
    slowest = sorted((own * 1e6).tolist())
    if rank == 0:
        p10, p50 = slowest[iterations // 10], slowest[iterations // 2]
        print(f'{{"bytes":{size},"dtype":"bf16","p10_us":{p10:.4f},"p50_us":{p50:.4f}}}', flush=True)


def main() -> None:
    rank, world, port = (int(word) for word in sys.argv[1:4])
    os.sched_setaffinity(0, {rank % os.cpu_count()})
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    for pair in sys.argv[4:]:
        size, iterations = (int(word) for word in pair.split(":"))
        measure(rank, size, iterations)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
