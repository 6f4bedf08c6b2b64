"""vLLM on AMD GPUs, with halo between the ranks.

Tensors are staged through host memory. Written against vLLM's documented behaviour; not tried on an AMD GPU yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.platforms.rocm import RocmPlatform

from halo._registration import register
from halo.vllm.graphs import refuse_graphs

if TYPE_CHECKING:
    from vllm.config import VllmConfig

# Without it vLLM would fall back to gloo. PyTorch has called it already unless that is switched off.
register()


class HaloRocmPlatform(RocmPlatform):
    """vLLM's ROCm platform with halo's communicator."""

    # torch.distributed's backend for the groups of devices.
    dist_backend: str = "halo"

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return "halo.vllm.communicator.HaloCommunicator"

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        super().check_and_update_config(vllm_config)
        refuse_graphs(vllm_config)
