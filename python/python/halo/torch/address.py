"""Which of this host's addresses the peers should use, where nobody has said it."""

from __future__ import annotations

import socket

import torch.distributed


def address_towards(store: torch.distributed.Store) -> str | None:
    """The address from which this host reaches the store's: on the network that ``--master-addr`` is on.

    None where the store is no TCP store, or is reached over loopback, which tells nothing of other hosts.
    """
    if isinstance(store, torch.distributed.PrefixStore):
        store = store._underlying_non_prefix_store
    if not isinstance(store, torch.distributed.TCPStore):
        return None
    try:
        family, kind, _, _, place = socket.getaddrinfo(store.host, store.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Nothing is sent: the system only chooses the route.
            probe.connect(place)
            address = probe.getsockname()[0]
    except OSError:
        return None
    return None if address == "::1" or address.startswith("127.") else address
