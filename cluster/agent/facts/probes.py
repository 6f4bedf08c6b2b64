"""Probes between nodes: each opens a port at its data address, and every other one tries it."""

import contextlib
import os
import socket
import threading

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, IPV6_MTU_DISCOVER = 10, 3, 23
PROBE_PATIENCE = 2.0


def unfragmented(address):
    """A UDP socket at `address` whose packets are never split on the way."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        probe.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    else:
        probe.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    probe.bind((address, 0))
    return probe


def echo(probe):
    while True:
        with contextlib.suppress(OSError):  # a frame too long for the way back gets no answer, which is the answer
            data, sender = probe.recvfrom(1 << 16)
            probe.sendto(data, sender)


def listen(request):
    """Opens one TCP and one UDP port at the data address, for the other nodes' probes."""
    address = request["address"]
    try:
        listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        echoes = unfragmented(address)
    except OSError as error:
        return {"error": error.strerror}
    threading.Thread(target=echo, args=(echoes,), daemon=True).start()
    return {"tcp": listener.getsockname()[1], "udp": echoes.getsockname()[1], "listener": keep(listener)}


kept = []


def keep(thing):
    kept.append(thing)
    return len(kept)


def passes(source, target, size):
    """Whether a frame of this many bytes gets there and back in one piece."""
    overhead = 48 if ":" in source else 28
    for _ in range(3):
        with unfragmented(source) as probe:
            probe.settimeout(PROBE_PATIENCE / 3)
            try:
                data = os.urandom(size - overhead)
                probe.sendto(data, target)
                if probe.recvfrom(1 << 16)[0] == data:
                    return True
            except OSError:
                continue
    return False


def probe_peer(request, peer, results):
    source, address, result = request["address"], peer["address"], {"peer": peer["index"]}
    results.append(result)
    try:
        socket.create_connection((address, peer["tcp"]), PROBE_PATIENCE, (source, 0)).close()
        result["tcp_error"] = None
    except OSError as error:
        result["tcp_error"] = error.strerror or "no answer"
    result["frames"] = [size for size in request["sizes"] if passes(source, (address, peer["udp"]), size)]


def probe(request):
    results = []
    threads = [threading.Thread(target=probe_peer, args=(request, peer, results)) for peer in request["peers"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
