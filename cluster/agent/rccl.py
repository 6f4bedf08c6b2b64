"""One rank of an all-reduce by RCCL, through torch.distributed. Arguments: rank, world, master address, port,
interface, sizes in bytes separated by commas. Prints {"missing"} where there is no GPU or no RCCL, else {"rows":
[{"bytes", "p50_us"}]}.
"""

import datetime
import json
import os
import sys
import time


def say(**message):
    print(json.dumps(message), flush=True)
    sys.exit(0)


rank, world, address, port, interface, sizes = sys.argv[1:]
try:
    import torch
    import torch.distributed as dist
except ImportError as error:
    say(missing=f"torch: {error}")
if not torch.cuda.is_available():
    say(missing="torch sees no GPU")
if not dist.is_nccl_available():
    say(missing="torch was built without RCCL")

os.environ["NCCL_SOCKET_IFNAME"] = interface
limit = datetime.timedelta(seconds=60)
dist.init_process_group("nccl", f"tcp://{address}:{port}", timeout=limit, rank=int(rank), world_size=int(world))
torch.cuda.set_device(0)
rows = []
for size in map(int, sizes.split(",")):
    tensor = torch.ones(size // 2, dtype=torch.bfloat16, device="cuda")
    rounds, times = (20 if size > 1 << 20 else 200), []
    for number in range(rounds + 10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        dist.all_reduce(tensor)
        torch.cuda.synchronize()
        if number >= 10:
            times.append((time.perf_counter() - start) * 1e6)
    rows.append({"bytes": size, "p50_us": sorted(times)[len(times) // 2]})
dist.destroy_process_group()
say(rows=rows)
