"""vLLM on AMD GPUs, with halo between the ranks.

Tensors are staged through host memory. Written against vLLM's documented behaviour; not tried on an AMD GPU yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.platforms.rocm import RocmPlatform

from halo.errors import UsageError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class HaloRocmPlatform(RocmPlatform):
    """vLLM's ROCm platform with halo's communicator."""

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return "halo.vllm.communicator.HaloCommunicator"

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        super().check_and_update_config(vllm_config)
        refuse_graphs(vllm_config)


def refuse_graphs(vllm_config: VllmConfig) -> None:
    """A captured graph would replay the kernels and leave out the host's part of every collective."""
    from vllm.config import CUDAGraphMode

    ranks = vllm_config.parallel_config.world_size
    if ranks > 1 and vllm_config.compilation_config.cudagraph_mode != CUDAGraphMode.NONE:
        raise UsageError(
            "HALO-E0554",
            f"{ranks} ranks with GPU graphs: collectives that pass through host memory cannot be captured",
            "start vLLM with --enforce-eager, or with --compilation-config '{\"cudagraph_mode\": \"NONE\"}'",
        )
