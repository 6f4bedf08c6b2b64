"""The exceptions of halo. Each carries a stable code, explained in docs/errors.md, and what to do."""

from __future__ import annotations


class HaloError(RuntimeError):
    """Any failure of halo.

    Attributes:
        code: the stable code, such as ``HALO-E0219``.
        message: what went wrong, and where.
        help: what to do about it.
        peer: the rank it is about, if it is about one.
    """

    def __init__(self, code: str, message: str, help: str = "", peer: int | None = None) -> None:
        super().__init__(f"{code}: {message}" + (f"\n  help: {help}" if help else ""))
        self.code = code
        self.message = message
        self.help = help
        self.peer = peer

    def __reduce__(self) -> tuple[type[HaloError], tuple[str, str, str, int | None]]:
        # Errors travel between processes (multiprocessing, Ray); by default only the composed text would.
        return type(self), (self.code, self.message, self.help, self.peer)


class ConnectError(HaloError):
    """The ranks could not meet."""


class PeerLostError(HaloError):
    """A peer's process, host or link is gone, or it has left."""


class MismatchError(HaloError):
    """Ranks are in different operations, or in the same one with other sizes or types."""


class WaitTimeoutError(HaloError, TimeoutError):
    """A peer did not take part before the deadline."""


class UsageError(HaloError, ValueError):
    """An argument that cannot be used. Nothing has been sent; the communicator goes on working."""


_CLASSES = {
    "HALO-E0201": UsageError,
    "HALO-E0202": UsageError,
    "HALO-E0203": UsageError,
    "HALO-E0218": PeerLostError,
    "HALO-E0219": PeerLostError,
    "HALO-E0220": PeerLostError,
    "HALO-E0221": PeerLostError,
    "HALO-E0225": UsageError,
    "HALO-E0301": MismatchError,
    "HALO-E0302": WaitTimeoutError,
    "HALO-E0303": UsageError,
    "HALO-E0304": UsageError,
    "HALO-E0305": UsageError,
    "HALO-E0306": UsageError,
    "HALO-E0502": UsageError,
    "HALO-E0513": UsageError,
}


def make(code: str, message: str, help: str, peer: int | None) -> HaloError:
    """The exception for a code; called by the native module."""
    kind = _CLASSES.get(code)
    if kind is None:
        kind = ConnectError if code.startswith(("HALO-E01", "HALO-E02")) else HaloError
    return kind(code, message, help, peer)
