"""The vLLM plugin. vLLM finds it by its entry point and calls `platform` in every process, before it has a platform.

Installing `halo` beside vLLM is all there is to do. The collectives of every group of several ranks then go through
`halo.Communicator`; `HALO_TRANSPORT` and the other variables of docs/environment.md apply.
"""

from __future__ import annotations


def platform() -> str | None:
    """The platform class for this machine, or None where halo has nothing to add to vLLM."""
    from vllm.platforms import cpu_platform_plugin, rocm_platform_plugin

    # ROCm first: a ROCm build of vLLM never reports a CPU platform, and a CPU build never sees a GPU.
    if rocm_platform_plugin() is not None:
        return "halo.vllm.rocm.HaloRocmPlatform"
    if cpu_platform_plugin() is not None:
        return "halo.vllm.cpu.HaloCpuPlatform"
    return None
