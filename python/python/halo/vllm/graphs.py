"""GPU graphs and collectives that pass through host memory do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halo.errors import UsageError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def refuse_graphs(vllm_config: VllmConfig) -> None:
    """A captured graph would replay the kernels and leave out the host's part of every collective."""
    from vllm.config import CUDAGraphMode

    ranks = vllm_config.parallel_config.world_size
    if ranks > 1 and vllm_config.compilation_config.cudagraph_mode != CUDAGraphMode.NONE:
        raise UsageError(
            "HALO-E0554",
            f"{ranks} ranks with GPU graphs: collectives that pass through host memory cannot be captured",
            'start vLLM with --enforce-eager, or with --compilation-config \'{"cudagraph_mode": "NONE"}\'',
        )
