"""Collectives between the ranks of a few hosts, over RDMA, TCP or shared memory.

>>> import halo
>>> with halo.Communicator(rank, world, rendezvous="192.168.100.1:29510") as communicator:
...     communicator.all_reduce(tensor)
"""

from halo._halo import __version__, generate_key
from halo.communicator import Communicator, Link
from halo.errors import (
    ConnectError,
    HaloError,
    MismatchError,
    PeerLostError,
    UsageError,
    WaitTimeoutError,
)
from halo.registration import Registration

__all__ = [
    "Communicator",
    "ConnectError",
    "HaloError",
    "Link",
    "MismatchError",
    "PeerLostError",
    "Registration",
    "UsageError",
    "WaitTimeoutError",
    "__version__",
    "generate_key",
]
