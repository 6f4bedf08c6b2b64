"""Ranks as processes: each test's body runs once per rank, and what it returns (or raises) comes back."""

from __future__ import annotations

import multiprocessing
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

# Long enough for a busy machine: every rank imports PyTorch first.
WAIT_SECONDS = 120


def _communicate(work: Callable[..., Any], rank: int, world: int, settings: dict[str, Any]) -> Any:
    import halo

    with halo.Communicator(rank, world, **settings) as communicator:
        return work(communicator)


def _distribute(work: Callable[..., Any], rank: int, world: int, settings: dict[str, Any]) -> Any:
    import torch.distributed

    torch.distributed.init_process_group(rank=rank, world_size=world, **settings)
    try:
        return work(rank, world)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _rank(run: Callable[..., Any], pipe: Any, *arguments: Any) -> None:
    import halo

    try:
        pipe.send(("value", run(*arguments)))
    except halo.HaloError as error:
        pipe.send(("halo", (type(error).__name__, error.code, str(error), error.peer)))
    except BaseException:
        pipe.send(("other", traceback.format_exc()))


def free_address() -> str:
    """For a listener to come: while TCP remembers a connection that ended here, nobody else is given the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()
        return f"127.0.0.1:{listener.getsockname()[1]}"


def _spawn(run: Callable[..., Any], each: list[tuple[Any, ...]]) -> list[tuple[str, Any]]:
    """Runs ``run(*each[rank])`` in a process for each rank; returns (kind, value) per rank."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for arguments in each:
        ours, theirs = context.Pipe()
        process = context.Process(target=_rank, args=(run, theirs, *arguments))
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


@pytest.fixture
def ranks() -> Callable[..., list[tuple[str, Any]]]:
    """Runs ``work(communicator)`` on every rank; returns (kind, value) per rank."""

    def run(work: Callable[..., Any], world: int = 2, each: Any = None, **settings: Any) -> list[tuple[str, Any]]:
        settings = {"rendezvous": free_address(), "timeout": 30.0, **settings}
        own = [{**settings, **(each(rank) if each else {})} for rank in range(world)]
        return _spawn(_communicate, [(work, rank, world, own[rank]) for rank in range(world)])

    return run


def _all_succeed(results: list[tuple[str, Any]]) -> list[Any]:
    for kind, value in results:
        assert kind == "value", value
    return [value for _, value in results]


@pytest.fixture
def values(ranks: Callable[..., list[tuple[str, Any]]]) -> Callable[..., list[Any]]:
    """As ``ranks``, where every rank must succeed."""
    return lambda work, **arguments: _all_succeed(ranks(work, **arguments))


@pytest.fixture
def torch_ranks(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[tuple[str, Any]]]:
    """Runs ``work(rank, world)`` on every rank of a torch.distributed world; returns (kind, value) per rank."""

    def run(work: Callable[..., Any], world: int = 2, backend: str = "halo", **settings: Any) -> list[tuple[str, Any]]:
        store = tmp_path_factory.mktemp("store") / "store"
        settings = {"backend": backend, "init_method": f"file://{store}", **settings}
        return _spawn(_distribute, [(work, rank, world, settings) for rank in range(world)])

    return run


@pytest.fixture
def torch_values(torch_ranks: Callable[..., list[tuple[str, Any]]]) -> Callable[..., list[Any]]:
    """As ``torch_ranks``, where every rank must succeed."""
    return lambda work, **arguments: _all_succeed(torch_ranks(work, **arguments))
