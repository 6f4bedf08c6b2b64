"""vLLM on AMD GPUs, with halo between the ranks.

Tensors are staged through host memory. Written against vLLM's documented behaviour; not tried on an AMD GPU yet.
"""

from __future__ import annotations

from vllm.platforms.rocm import RocmPlatform


class HaloRocmPlatform(RocmPlatform):
    """vLLM's ROCm platform with halo's communicator."""

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return "halo.vllm.communicator.HaloCommunicator"
