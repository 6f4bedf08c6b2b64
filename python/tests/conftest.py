"""Ranks as processes: each test's body runs once per rank, and what it returns (or raises) comes back."""

from __future__ import annotations

import multiprocessing
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

WAIT_SECONDS = 60


def _rank(work: Callable[..., Any], rank: int, world: int, settings: dict[str, Any], pipe: Any) -> None:
    import halo

    try:
        with halo.Communicator(rank, world, **settings) as communicator:
            pipe.send(("value", work(communicator)))
    except halo.HaloError as error:
        pipe.send(("halo", (type(error).__name__, error.code, str(error), error.peer)))
    except BaseException:
        pipe.send(("other", traceback.format_exc()))


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def ranks() -> Callable[..., list[tuple[str, Any]]]:
    """Runs ``work(communicator)`` on every rank; returns (kind, value) per rank."""

    def run(work: Callable[..., Any], world: int = 2, each: Any = None, **settings: Any) -> list[tuple[str, Any]]:
        settings = {"rendezvous": free_address(), "timeout": 30.0, **settings}
        context = multiprocessing.get_context("spawn")
        pipes, processes = [], []
        for rank in range(world):
            ours, theirs = context.Pipe()
            own = {**settings, **(each(rank) if each else {})}
            process = context.Process(target=_rank, args=(work, rank, world, own, theirs))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        results: list[tuple[str, Any]] = []
        for pipe in pipes:
            try:
                results.append(pipe.recv() if pipe.poll(WAIT_SECONDS) else ("hung", None))
            except EOFError:
                results.append(("died", None))
        for process in processes:
            process.join(WAIT_SECONDS)
            process.kill()
        return results

    return run


@pytest.fixture
def values(ranks: Callable[..., list[tuple[str, Any]]]) -> Callable[..., list[Any]]:
    """As ``ranks``, where every rank must succeed."""

    def run(work: Callable[..., Any], **arguments: Any) -> list[Any]:
        results = ranks(work, **arguments)
        assert all(kind == "value" for kind, _ in results), results
        return [value for _, value in results]

    return run
