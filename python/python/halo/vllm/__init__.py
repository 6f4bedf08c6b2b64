"""The vLLM plugin. vLLM finds both functions by their entry points and calls them in every process.

Installing `halo` beside vLLM is all there is to do. The collectives of every group of several ranks then go through
`halo.Communicator`; `HALO_TRANSPORT` and the other variables of docs/environment.md apply. See docs/vllm.md.
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


def register() -> None:
    """Refuses to go on where vLLM settled on another platform: its collectives would pass halo by, and nobody told."""
    from vllm.platforms import current_platform

    from halo.errors import UsageError

    wanted = platform()
    chosen = f"{type(current_platform).__module__}.{type(current_platform).__qualname__}"
    if wanted is not None and chosen != wanted:
        raise UsageError(
            "HALO-E0553",
            f"vLLM runs on the platform {chosen} instead of {wanted}",
            "unset VLLM_TARGET_DEVICE; or, to run vLLM without halo, leave halo out of VLLM_PLUGINS",
        )
