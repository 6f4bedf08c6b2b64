"""One of two ranks over RDMA: the package's communicator or, with the argument `torch`, torch.distributed's backend."""

import array
import os
import sys

import halo

RANK, HOST = int(os.environ["RANK"]), "192.168.100.1"


def communicator() -> None:
    with halo.Communicator(RANK, 2, rendezvous=f"{HOST}:29510", transport="rdma") as both:
        floats = array.array("f", [RANK + 1.0] * 300_000)
        both.all_reduce(floats)
        (link,) = both.links
        print(f"communicator: {set(floats)} by {link.transport} ({link.reason})", flush=True)


def torch_backend() -> None:
    import torch
    import torch.distributed as dist
    from halo.torch import statistics

    dist.init_process_group("halo", f"tcp://{HOST}:29511", rank=RANK, world_size=2)
    tensor = torch.full((100_000,), RANK + 1, dtype=torch.bfloat16)
    works = [dist.all_reduce(tensor, async_op=True) for _ in range(3)]
    for work in works:
        work.wait()
    if RANK == 0:
        dist.send(tensor, 1, tag=7)
    else:
        dist.recv(tensor.zero_(), 0, tag=7)
    objects = [None, None]
    dist.all_gather_object(objects, {"rank": RANK})
    transports = sorted({link["transport"] for entry in statistics() for link in entry["links"]})
    print(f"torch: {set(tensor.tolist())} {objects} by {transports}", flush=True)
    dist.destroy_process_group()


if sys.argv[1:] == ["torch"]:
    torch_backend()
else:
    communicator()
