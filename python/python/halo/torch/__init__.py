"""The torch.distributed backend "halo".

>>> import torch
>>> torch.distributed.init_process_group("halo")

PyTorch registers it when torch is imported, so that no import of halo is needed. Where that is switched off
(``TORCH_DEVICE_BACKEND_AUTOLOAD=0``), ``import halo.torch`` does it. See docs/python.md.
"""

from __future__ import annotations

from typing import Any

import torch.distributed

from halo._registration import register
from halo.torch.group import HaloProcessGroup, foreign_group

__all__ = ["HaloProcessGroup", "statistics"]

register()


def statistics(group: torch.distributed.ProcessGroup | None = None) -> list[dict[str, Any]]:
    """The statistics of each communicator that a group (by default, the world) has connected so far."""
    group = group or torch.distributed.group.WORLD
    if not isinstance(group, HaloProcessGroup):
        raise foreign_group("statistics", group)
    return group.statistics()
