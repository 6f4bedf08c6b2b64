"""A Ray cluster of two machines, and an actor on each that reduces over RDMA with the other.

Machine 0 is Ray's head and drives; machine 1 joins and stays until machine 0 is done. Prints what each actor saw, and
what its RDMA device counted meanwhile. Ends with status 1, and says why, if Ray does not come up within RAY_PATIENCE
seconds.
"""

import array
import contextlib
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time

RANK, ADDRESS, HEAD = int(os.environ["RANK"]), os.environ["ADDRESS"], "192.168.100.1"
WORLD = 2
PATIENCE = int(os.environ["RAY_PATIENCE"])
RAY_PORT, DONE_PORT, AGENT_PORT, HALO_PORT = 6379, 6400, 6401, 29510
ELEMENTS = 300_000
COUNTERS = pathlib.Path("/sys/class/infiniband/rxe0/ports/1/hw_counters")
LOGS = pathlib.Path("/tmp/ray/session_latest/logs")
STARTED = time.monotonic()

# The dashboard is not waited for: nobody looks at it. Everything else may take long:
# an emulated processor is some thirty times slower than Ray expects one to be. No worker before it is asked for.
for name, scale in {
    "RAY_agent_register_timeout_ms": 1000,
    "RAY_worker_register_timeout_seconds": 1,
    "RAY_gcs_rpc_server_connect_timeout_s": 1,
    "RAY_gcs_rpc_server_reconnect_timeout_s": 1,
    "RAY_gcs_server_request_timeout_seconds": 1,
    "RAY_health_check_initial_delay_ms": 1000,
    "RAY_health_check_timeout_ms": 1000,
}.items():
    os.environ[name] = str(PATIENCE * scale)
os.environ.update(RAY_DASHBOARD_STARTUP_TIMEOUT_S="1")
os.environ.update(RAY_enable_worker_prestart="0", RAY_prestart_worker_first_driver="0", RAY_USAGE_STATS_ENABLED="0")


def say(words: str) -> None:
    print(f"{time.monotonic() - STARTED:.0f} s: {words}", flush=True)


def give_up(why: str) -> None:
    """Ends this machine's part, whatever its other threads wait for."""
    say(why)
    for log in ("gcs_server.out", "raylet.out"):
        with contextlib.suppress(OSError):
            # Warnings, errors and failed checks.
            lines = [line for line in (LOGS / log).read_text().splitlines() if re.search(r" [WEC] \d+ \d+\]", line)]
            print(f"--- {log}", *lines[-10:], sep="\n", flush=True)
    os._exit(1)


@contextlib.contextmanager
def patience(otherwise: str):
    """Ends this machine's part, with these words, if what is in it takes too long."""
    timer = threading.Timer(PATIENCE, give_up, [f"{otherwise} on machine {RANK} within {PATIENCE} s"])
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


def start_ray():
    """Ray's processes of this machine: those of `ray start`, whose imports alone take a minute and more here. Two of
    Ray's waits, half a minute each, are fixed: they are made longer, and `patience` ends them.
    """
    from ray import _raylet as names
    from ray._private import services
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    once = services.get_node

    def until_it_is_there(*address):
        while True:
            with contextlib.suppress(RuntimeError):
                return once(*address)
            time.sleep(0.2)

    class PatientNode(Node):
        def start_raylet(self, *arguments, **options):
            # The raylet waits for its agents to write these; what they will write is known, -1 is a port not in use.
            ports = {names.RUNTIME_ENV_AGENT_PORT_NAME: AGENT_PORT, names.METRICS_AGENT_PORT_NAME: -1}
            ports |= {names.METRICS_EXPORT_PORT_NAME: -1, names.DASHBOARD_AGENT_LISTEN_PORT_NAME: -1}
            for name, port in ports.items():
                names.persist_port(self._session_dir, self._node_id, name, port)
            super().start_raylet(*arguments, **options)

    services.get_node = until_it_is_there
    place = {"gcs_server_port": RAY_PORT} if RANK == 0 else {"gcs_address": f"{HEAD}:{RAY_PORT}"}
    less = {"include_dashboard": False, "no_monitor": True, "include_log_monitor": False}
    own = {"num_cpus": 1, "resources": {f"machine{RANK}": 1}, "object_store_memory": 100_000_000}
    own |= {"runtime_env_agent_port": AGENT_PORT}
    return PatientNode(RayParams(node_ip_address=ADDRESS, **place, **less, **own), head=RANK == 0, spawn_reaper=False)


class Reducer:
    """One rank."""

    def run(self, rank: int) -> dict:
        import halo

        def counted() -> int:
            return int((COUNTERS / "sent_pkts").read_text())

        before = counted()
        with halo.Communicator(rank, WORLD, rendezvous=f"{HEAD}:{HALO_PORT}", timeout=PATIENCE) as both:
            floats = array.array("f", [rank + 1.0] * ELEMENTS)
            both.all_reduce(floats)
            (link,) = both.links
            return {
                "machine": socket.gethostname(),
                "values": sorted(set(floats)),
                "transport": link.transport,
                "reason": link.reason,
                "packets": counted() - before,
            }


def drive() -> None:
    import ray

    ray.init(address=f"{HEAD}:{RAY_PORT}", _node_ip_address=ADDRESS, log_to_driver=False)
    say("the driver is there")
    actor = ray.remote(Reducer)
    actors = [actor.options(num_cpus=0, resources={f"machine{rank}": 1}).remote() for rank in range(WORLD)]
    for rank, result in enumerate(ray.get([actor.run.remote(rank) for rank, actor in enumerate(actors)])):
        say(f"actor {rank}: {json.dumps(result)}")


def head() -> socket.socket:
    """A connection to machine 0, which listens once its Ray is up, and whose end ends it."""
    while True:
        with contextlib.suppress(OSError):
            return socket.create_connection((HEAD, DONE_PORT), timeout=1)
        time.sleep(0.2)


with patience("Ray did not come up"):
    import ray  # noqa: F401

    say("ray is imported")
    if RANK == 0:
        node = start_ray()
        done = socket.create_server((ADDRESS, DONE_PORT))
    else:
        connection = head()
        node = start_ray()
    say(f"Ray is up on machine {RANK}")
if RANK == 0:
    with patience("the actors were not done"):
        try:
            drive()
        except Exception as error:  # said at once: Ray's own end would take its time
            give_up(f"an actor failed: {error}")
else:
    with patience("machine 0 was not done"), contextlib.suppress(ConnectionResetError):
        connection.settimeout(None)
        connection.recv(1)
sys.stdout.flush()
# The machine ends with its command, and Ray's processes with the machine: none of them is waited for.
os._exit(0)
