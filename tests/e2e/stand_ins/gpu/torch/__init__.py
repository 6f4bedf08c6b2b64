"""The installed torch as it is on a machine with an AMD GPU and RCCL, where there is neither.

Everything is the real torch and torch.distributed; only what the GPU does, the processor does, and Gloo stands in for
RCCL: it goes over the interface that RCCL was told and understands bfloat16. What the program would get wrong with RCCL
(a tensor that is not on the GPU, an interface that is not told exactly, a transport left to chance) is refused.
NO_GPU_ON names hosts that have none.
"""

import os
import socket
import sys

folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:] = [place for place in sys.path if os.path.abspath(place or ".") != folder]
del sys.modules["torch"]

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

here = socket.gethostname() not in os.environ.get("NO_GPU_ON", "").split(",")
torch.cuda.is_available = lambda: here
torch.cuda.nccl.version = lambda: (2, 22, 3)
torch.cuda.synchronize = lambda device=None: None
dist.is_nccl_available = lambda: True
chosen = []
torch.cuda.set_device = chosen.append

make_ones, join, all_reduce = torch.ones, dist.init_process_group, dist.all_reduce
on_gpu = set()


def ones(*size, device="cpu", **more):
    tensor = make_ones(*size, **more)
    if device == "cuda":
        on_gpu.add(tensor.data_ptr())
    return tensor


def init_process_group(backend, *arguments, **more):
    assert backend == "nccl" and here and chosen, (backend, here, chosen)
    interface, network = os.environ["NCCL_SOCKET_IFNAME"], os.environ["NCCL_NET"]
    assert interface.startswith("=") and network == "Socket" and os.environ["NCCL_IB_DISABLE"] == "1"
    os.environ["GLOO_SOCKET_IFNAME"] = interface[1:]
    return join("gloo", *arguments, **more)


def reduce_on_gpu(tensor, *arguments, **more):
    assert tensor.data_ptr() in on_gpu, "RCCL takes tensors of the GPU"
    return all_reduce(tensor, *arguments, **more)


torch.ones, dist.init_process_group, dist.all_reduce = ones, init_process_group, reduce_on_gpu
