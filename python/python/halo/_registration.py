"""Tells PyTorch of the backend "halo" of torch.distributed.

A module of its own, that imports nothing: PyTorch calls `register` (by the package's entry point) at the end of its own
import, which may have been set off by that of `halo.torch`.
"""

from __future__ import annotations

from typing import Any

# Tensors on other devices pass through host memory. "cpu" and "cuda" (which is also AMD's) have a default backend of
# their own in PyTorch, so that being listed here makes halo nobody's default.
_DEVICES = ["cpu", "cuda"]


def register() -> None:
    """Makes PyTorch know the backend. A second call changes nothing."""
    import torch.distributed

    if torch.distributed.is_available() and not torch.distributed.is_backend_available("halo"):
        torch.distributed.Backend.register_backend("halo", _create, extended_api=True, devices=_DEVICES)


def _create(options: Any, settings: Any) -> Any:
    from halo.torch.group import HaloProcessGroup

    return HaloProcessGroup(
        options.store, options.group_rank, options.group_size, options.group_id, options.timeout, settings
    )
