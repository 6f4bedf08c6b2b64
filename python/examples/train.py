"""Trains a small model in parallel on every rank that torchrun starts, with its gradients summed by halo.

torchrun --nproc-per-node 2 python/examples/train.py
"""

import halo.torch
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

STEPS = 50


def main() -> None:
    dist.init_process_group("halo")
    rank = dist.get_rank()

    torch.manual_seed(0)
    target = torch.randn(8, 1)
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    torch.manual_seed(1 + rank)  # each rank has data of its own
    for _ in range(STEPS):
        data = torch.randn(64, 8)
        loss = (model(data) - data @ target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    dist.all_reduce(loss := loss.detach())
    if rank == 0:
        print(f"loss after {STEPS} steps: {loss.item() / dist.get_world_size():.1e}")
        for communicator in halo.torch.statistics():
            for link in communicator["links"]:
                print(f"rank {link['peer']} by {link['transport']}")
            for operation in communicator["operations"]:
                print(f"{operation['count']} x {operation['operation']}, {operation['bytes']} bytes")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
