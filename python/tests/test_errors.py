"""What a user is told when something goes wrong: the class, the code, both sides by name, and no hang."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import threading

import halo
import numpy
import pytest
import torch
from conftest import free_address


def codes(results):
    assert all(kind == "halo" for kind, _ in results), results
    return [error[1] for _, error in results]


def reduce_by_rank(communicator):
    communicator.all_reduce(torch.ones(4 * (communicator.rank + 1)))


def test_sizes_that_differ_are_named_on_both_sides(ranks):
    results = ranks(reduce_by_rank)
    assert "HALO-E0301" in codes(results)
    assert all("4 x f32" in error[2] and "8 x f32" in error[2] for _, error in results), results


def die_on_rank_one(communicator):
    communicator.barrier()
    if communicator.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    communicator.all_reduce(torch.ones(1 << 20))


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_a_killed_rank_is_named_by_the_other(ranks, transport):
    (kind, error), (other, _) = ranks(die_on_rank_one, transport=transport)
    assert (kind, other) == ("halo", "died")
    assert error[0] == "PeerLostError" and error[3] == 1 and "rank 1" in error[2], error


def test_blocks_of_all_to_all_must_be_told_whole():
    ones, counts = torch.ones(4), [4]
    with halo.Communicator(0, 1) as communicator:
        with pytest.raises(halo.UsageError, match="HALO-E0502"):
            communicator.all_to_all(ones, out=torch.empty(4), counts=counts)
        for wrong in ([3], [2, 2], []):
            with pytest.raises(halo.UsageError, match="HALO-E0303"):
                communicator.all_to_all(ones, out=torch.empty(4), counts=counts, out_counts=wrong)
        communicator.all_to_all(ones, out=ones.new_empty(4), counts=counts, out_counts=counts)


def counts_whose_sum_wraps(communicator):
    ours, theirs = (16, (1 << 64) - 8), (16, 0)
    if communicator.rank == 1:
        ours, theirs = ours[::-1], theirs[::-1]
    with pytest.raises(halo.UsageError, match=r"HALO-E0303.*more than there is memory"):
        communicator.all_to_all(bytearray(8), out=bytearray(16), counts=list(ours), out_counts=list(theirs))
    communicator.barrier()


def test_counts_whose_sum_wraps_are_refused(values):
    values(counts_whose_sum_wraps)


def panics_on_rank_zero(communicator):
    communicator.barrier()
    if communicator.rank == 1:
        communicator.recv(bytearray(1), 0)
    # PyO3 panics when it finds its own PanicException raised, which it makes with the first error that it finds.
    with pytest.raises(OverflowError):
        communicator.send(bytearray(1), 1 << 70)
    (panic,) = (kind for kind in BaseException.__subclasses__() if kind.__name__ == "PanicException")

    def handler(*_):
        raise panic("inside")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    for call in (lambda: communicator.recv(bytearray(1), 1), communicator.barrier, lambda: communicator.split(0)):
        with pytest.raises(halo.HaloError, match="HALO-E0501"):
            call()


def test_a_panic_ends_the_communicator_and_the_others_are_told(ranks):
    (kind, closing), (other, error) = ranks(panics_on_rank_zero)
    assert kind == "halo" and closing[1] == "HALO-E0501", closing
    assert other == "halo" and error[0] == "PeerLostError", error
    assert "rank 0" in error[2] and "HALO-E0501: halo panicked" in error[2], error


def interrupted_while_it_waits(communicator):
    communicator.barrier()
    if communicator.rank == 1:
        communicator.recv(bytearray(1), 0)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt), communicator:
        communicator.recv(bytearray(1), 1)
    return "KeyboardInterrupt"


def test_a_signal_ends_a_wait_and_the_others_are_told(ranks):
    interrupted, (kind, error) = ranks(interrupted_while_it_waits)
    assert interrupted == ("value", "KeyboardInterrupt")
    assert kind == "halo" and error[0] == "PeerLostError" and "interrupted" in error[2], error


def interrupted_while_it_closes(communicator, folder):
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    if communicator.rank == 1:
        # Reads nothing until the other one is through.
        store.wait(["closed"])
        return None
    communicator.send(bytearray(8 * 128 * 1024), 1)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(KeyboardInterrupt):
        communicator.close()
    store.set("closed", "")
    return "KeyboardInterrupt"


def test_a_signal_ends_the_wait_of_one_that_closes(ranks, tmp_path):
    closes = functools.partial(interrupted_while_it_closes, folder=tmp_path)
    interrupted, (kind, error) = ranks(closes, transport="tcp", timeout=300.0)
    assert interrupted == ("value", "KeyboardInterrupt")
    assert kind == "halo" and error[1] == "HALO-E0301", "what it never received"


def meet_by_store(rank, folder):
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    halo.Communicator.from_store(store, rank, 2)


def meet_by_rendezvous(rank, folder):
    halo.Communicator(rank, 2, rendezvous=free_address())


@pytest.mark.parametrize("meet", [meet_by_store, meet_by_rendezvous])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_ends_the_wait_for_the_others_to_come(meet, rank, tmp_path):
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            meet(rank, tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)


def aborted_by_a_thread(communicator):
    communicator.barrier()
    if communicator.rank == 0:
        threading.Thread(target=communicator.abort).start()
    communicator.recv(bytearray(1), 1 - communicator.rank)


def test_another_thread_can_abort(ranks):
    (_, aborted), (_, told) = ranks(aborted_by_a_thread)
    assert (aborted[1], told[0]) == ("HALO-E0312", "PeerLostError")


def nothing(communicator):
    return None


def test_rdma_without_a_device_is_an_error_and_not_another_transport(ranks):
    results = ranks(nothing, transport="rdma")
    assert set(codes(results)) <= {"HALO-E0215", "HALO-E0221"}
    assert any("rdma" in error[2] for _, error in results)


def test_different_transports_are_a_disagreement(ranks):
    results = ranks(nothing, each=lambda rank: {"transport": ["shm", "tcp"][rank]})
    assert "HALO-E0208" in codes(results)


def test_an_unknown_transport_is_refused_with_the_known_ones():
    with pytest.raises(halo.UsageError) as caught:
        halo.Communicator(0, 1, transport="roce")
    assert caught.value.code == "HALO-E0201" and "rdma" in caught.value.help


def test_an_unreachable_rendezvous_is_named_within_the_timeout():
    with pytest.raises(halo.ConnectError) as caught:
        halo.Communicator(1, 2, rendezvous="127.0.0.1:9", timeout=0.3)
    assert caught.value.code == "HALO-E0205" and "127.0.0.1:9" in str(caught.value)


@pytest.mark.parametrize(
    ("buffer", "words"),
    [
        (torch.ones(4, 4).t(), "not contiguous"),
        (numpy.ones((4, 4), dtype=numpy.float32)[:, 1], "not contiguous"),
        (torch.ones(4, dtype=torch.complex64), "cannot be reduced"),
        (numpy.ones(4, dtype=">f4"), "cannot be reduced"),
        (numpy.ones(4, dtype="i4,f4"), "cannot be reduced"),
        (b"1234", "read-only"),
        ([1.0, 2.0], "no buffer"),
    ],
)
def test_buffers_that_cannot_be_used_are_refused_and_harm_nothing(buffer, words):
    with halo.Communicator(0, 1) as communicator:
        with pytest.raises(halo.UsageError, match=words):
            communicator.all_reduce(buffer)
        communicator.all_reduce(torch.ones(4))


def test_outputs_that_do_not_fit_are_refused_with_both_sizes_and_harm_nothing():
    four = torch.ones(4)
    with halo.Communicator(0, 1) as communicator:
        for call in (communicator.all_gather, communicator.reduce_scatter, communicator.all_reduce):
            for wrong in (torch.empty(3), torch.empty(5)):
                with pytest.raises(halo.UsageError, match=rf"\b{4 * wrong.numel()}\b") as caught:
                    call(four, out=wrong)
                assert caught.value.code == "HALO-E0303" and "16" in str(caught.value)
        out = torch.empty(4)
        communicator.all_gather(four, out=out)
        assert torch.equal(out, four)


def overlapping(communicator):
    rank, world = communicator.rank, communicator.world
    memory = torch.zeros(8 * world)
    whole, half = memory[: 4 * world], memory[2 * world : 6 * world]
    own, other = (whole[4 * r : 4 * r + 4] for r in (rank, (rank + 1) % world))
    ones, blocks = numpy.ones(4, dtype=numpy.float32), [4] * world
    calls = [
        (communicator.all_reduce, whole, {"out": half}),
        (communicator.all_reduce, half.numpy(), {"out": whole}),
        (communicator.all_reduce, whole, {"out": whole[:-1]}),
        (communicator.reduce, whole, {"out": half, "root": rank}),
        (communicator.all_gather, other, {"out": whole}),
        (communicator.all_gather, memory[4 * rank + 1 :][:4], {"out": whole}),
        (communicator.gather, other, {"out": whole, "root": rank}),
        (communicator.reduce_scatter, whole, {"out": other}),
        (communicator.scatter, whole, {"out": own, "root": rank}),
        (communicator.all_to_all, whole, {"out": whole}),
        (communicator.all_to_all, whole, {"out": half}),
        (communicator.all_to_all, whole, {"out": whole, "counts": blocks, "out_counts": blocks}),
    ]
    told = []
    for call, tensor, arguments in calls:
        with pytest.raises(halo.UsageError, match=rf"{call.__name__}: .* overlap in \d+ bytes") as caught:
            call(tensor, **arguments)
        told.append(caught.value.code)
    # No rank has heard of any of it, and what only touches does not overlap.
    communicator.all_gather(ones, out=whole)
    communicator.all_to_all(whole, out=memory[4 * world :])
    assert memory.eq(1).all()
    return told


@pytest.mark.parametrize("world", [2, 3])
def test_outputs_that_overlap_the_input_are_refused_and_harm_nothing(values, world):
    assert values(overlapping, world=world) == [["HALO-E0513"] * 12] * world


@pytest.mark.parametrize(
    ("variable", "value", "code", "words"),
    [
        ("HALO_SLOT_BYTES", "100", "HALO-E0202", "a multiple of 64"),
        ("HALO_SLOT_BYTES", "many", "HALO-E0203", "HALO_SLOT_BYTES"),
        ("HALO_SLOTS", "1", "HALO-E0202", "2 to 4096"),
        ("HALO_PLANS", "{}/absent.toml", "HALO-E0309", "absent.toml"),
        ("HALO_PLANS", "{}/words.toml", "HALO-E0309", "words.toml"),
        ("HALO_PLANS", "{}/newer.toml", "HALO-E0309", "version"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(monkeypatch, tmp_path, variable, value, code, words):
    (tmp_path / "words.toml").write_text("no table")
    (tmp_path / "newer.toml").write_text("version = 1000\n")
    monkeypatch.setenv(variable, value.format(tmp_path))
    with pytest.raises(halo.HaloError, match=words) as caught:
        halo.Communicator(0, 1)
    assert caught.value.code == code and caught.value.help


def test_truth_values_have_no_average():
    with halo.Communicator(0, 1) as communicator:
        with pytest.raises(halo.UsageError, match="no avg of bool") as caught:
            communicator.all_reduce(torch.ones(4, dtype=torch.bool), "avg")
        assert caught.value.code == "HALO-E0304" and "sum" in caught.value.help


def test_an_unknown_rounding_is_refused_with_the_known_ones():
    with pytest.raises(halo.UsageError, match="never") as caught:
        halo.Communicator(0, 1, rounding="never")
    assert "once or each" in str(caught.value) + caught.value.help


def test_a_closed_communicator_says_so():
    communicator = halo.Communicator(0, 1)
    communicator.close()
    communicator.close()
    with pytest.raises(halo.HaloError) as caught:
        communicator.barrier()
    assert caught.value.code == "HALO-E0225"


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(halo.UsageError, match="rank"):
        halo.Communicator(2, 2)


def test_errors_travel_between_processes() -> None:
    error = halo.PeerLostError("HALO-E0219", "rank 1 is gone", "look at its log", 1)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is halo.PeerLostError
    assert (str(copy), copy.code, copy.help, copy.peer) == (str(error), "HALO-E0219", "look at its log", 1)
