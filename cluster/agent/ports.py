"""Free ports that stay free until somebody listens there."""

import contextlib
import socket


def reserve(address, count):
    """`count` ports of `address`, for servers that have yet to be started.

    A port that was only asked for and let go may be given to any connection in between. These have a connection behind
    them that ended on this side: for the minute in which TCP remembers that, the system gives them to nobody who does
    not name them, and who names one with SO_REUSEADDR, as servers do, may listen there.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as open_until_all_are_found:
        return [reserve_one(address, family, open_until_all_are_found) for _ in range(count)]


def reserve_one(address, family, keep):
    listener = keep.enter_context(socket.create_server((address, 0), family=family))
    keep.enter_context(socket.create_connection(listener.getsockname()))
    listener.accept()[0].close()
    return listener.getsockname()[1]
