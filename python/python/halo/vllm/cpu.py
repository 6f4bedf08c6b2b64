"""vLLM on CPUs, with halo between the ranks, and allowed under Ray."""

from __future__ import annotations

from typing import ClassVar

from vllm.platforms.cpu import CpuPlatform

from halo._registration import register

# Without it vLLM would fall back to gloo. PyTorch has called it already unless that is switched off.
register()


class HaloCpuPlatform(CpuPlatform):
    """vLLM's CPU platform with halo's communicator.

    vLLM's own CPU platform refuses Ray because it names no resource to place workers by. Ray's nodes are started with
    ``--num-gpus 1`` for each worker they may run, and workers are placed by that.
    """

    # torch.distributed's backend for the groups of devices.
    dist_backend: str = "halo"
    ray_device_key: str = "GPU"
    ray_noset_device_env_vars: ClassVar[list[str]] = []

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return "halo.vllm.communicator.HaloCommunicator"

    @classmethod
    def use_custom_op_collectives(cls) -> bool:
        # torch.compile cannot look into the native module; as a custom operator a collective is one opaque node to it.
        return True
