"""An operation that has been issued: what torch.distributed returns for ``async_op=True``."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import torch
import torch.distributed

from halo.errors import WaitTimeoutError

_NO_TIMEOUT = timedelta(0)


class HaloWork(torch.distributed.Work):
    """Waits for one operation; its error is raised by every ``wait``.

    Args:
        name, group: of the operation and its process group, for messages.
        result: the tensors that hold the result when the work is done, as PyTorch hands them on.
        timeout: how long a ``wait`` without a time-out of its own lasts; without it, the operation's own deadline ends
            the wait.
    """

    def __init__(self, name: str, group: str, result: Any, timeout: timedelta = _NO_TIMEOUT) -> None:
        super().__init__()
        self._name, self._group = name, group
        self._result = result
        self._timeout = timeout
        self._done = False
        self._error: BaseException | None = None
        self._future: torch.futures.Future[None] | None = None
        # Held until the operation has ended. A lock, because an event takes longer to make than a small collective.
        self._running = threading.Lock()
        self._running.acquire()
        self._future_lock = threading.Lock()

    def finish(self, error: BaseException | None = None) -> None:
        """Called once, by whoever ran the operation."""
        self._error = error
        with self._future_lock:
            self._done = True
            future = self._future
        self._running.release()
        if future is not None:
            future.set_result(None)

    def wait(self, timeout: timedelta = _NO_TIMEOUT) -> bool:
        if not self._done:
            limit = (timeout or self._timeout).total_seconds()
            if not self._running.acquire(timeout=limit if limit > 0 else -1):
                raise WaitTimeoutError(
                    "HALO-E0565",
                    f"{self._name} in process group {self._group} has not ended within {limit:.1f} s",
                    "a rank has not taken part yet; the operation goes on, and can be waited for again",
                )
            self._running.release()
        if self._error is not None:
            raise self._error
        return True

    def synchronize(self) -> None:
        self.wait()

    def is_completed(self) -> bool:
        return self._done

    def is_success(self) -> bool:
        return self.is_completed() and self._error is None

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        self.wait()
        return self._result

    def get_future(self) -> torch.futures.Future[Any]:
        with self._future_lock:
            if self._future is not None:
                return self._outcome
            self._future = torch.futures.Future()
            # A future given an exception in Python has failed for Python only; C++ (parallel training) would take the
            # exception object for the result. One whose callback raises has failed for both.
            self._outcome = self._future.then(self._conclude)
            ended = self._done
        if ended:
            self._future.set_result(None)
        return self._outcome

    def _conclude(self, _: torch.futures.Future[None]) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


class JoinedWork(torch.distributed.Work):
    """Several works as one: ends when all have."""

    def __init__(self, works: list[HaloWork]) -> None:
        super().__init__()
        self._works = works

    def wait(self, timeout: timedelta = _NO_TIMEOUT) -> bool:
        return all([work.wait(timeout) for work in self._works])

    def synchronize(self) -> None:
        self.wait()

    def is_completed(self) -> bool:
        return all(work.is_completed() for work in self._works)

    def is_success(self) -> bool:
        return all(work.is_success() for work in self._works)

    def exception(self) -> BaseException | None:
        return next((work.exception() for work in self._works if work.exception() is not None), None)

    def result(self) -> Any:
        return [tensor for work in self._works for tensor in work.result()]

    def get_future(self) -> torch.futures.Future[Any]:
        return torch.futures.collect_all([work.get_future() for work in self._works])
