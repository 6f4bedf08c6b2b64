"""All-reduces by RCCL, through torch.distributed.

    rccl.py find                                  prints {"version"}, or {"missing"}: why there is none
    rccl.py run ROOT INTERFACE DEVICE RANK WORLD ADDRESS PORT SIZES
                                                  one rank; prints {"rows", "counted"}

DEVICE is an RDMA device or `-`, SIZES are bytes, separated by commas. What was counted is the difference of the node's
counters before and after. RCCL's own variables come from the environment.
"""

import datetime
import json
import sys
import time

import counters

# Seconds until a rank gives up on the others.
PATIENCE = 60


def say(**message):
    print(json.dumps(message), flush=True)


def find():
    try:
        import torch
        import torch.distributed as dist
    except ImportError as error:
        return say(missing=f"torch: {error}")
    if not torch.cuda.is_available():
        return say(missing="torch sees no GPU")
    if not dist.is_nccl_available():
        return say(missing="torch was built without RCCL")
    say(version=".".join(map(str, torch.cuda.nccl.version())))


def run(root, interface, device, rank, world, address, port, sizes):
    import torch
    import torch.distributed as dist

    limit = datetime.timedelta(seconds=PATIENCE)
    where = f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"
    before = counters.read(root, interface, device)
    torch.cuda.set_device(0)
    dist.init_process_group("nccl", where, timeout=limit, rank=int(rank), world_size=int(world))
    rows = [measure(torch, dist, size) for size in map(int, sizes.split(","))]
    dist.destroy_process_group()
    say(rows=rows, counted=counters.risen(before, counters.read(root, interface, device)))


def measure(torch, dist, size):
    tensor = torch.ones(size // 2, dtype=torch.bfloat16, device="cuda")
    dist.all_reduce(tensor)
    if not bool((tensor == dist.get_world_size()).all()):
        sys.exit(f"RCCL's sum of {size} bytes is wrong")
    # Ones would become infinite; nothing plus nothing stays as it is and takes as long.
    tensor.zero_()
    warm_up, rounds, times = 10, 20 if size > 1 << 20 else 200, []
    for number in range(warm_up + rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        dist.all_reduce(tensor)
        torch.cuda.synchronize()
        if number >= warm_up:
            times.append((time.perf_counter() - start) * 1e6)
    times.sort()
    middle, last = times[len(times) // 2], times[len(times) * 99 // 100]
    return {"bytes": size, "p50_us": middle, "p99_us": last, "sent": size * (1 + warm_up + rounds)}


{"find": find, "run": run}[sys.argv[1]](*sys.argv[2:])
