"""One rank of a measurement on this node, and what its network card counted meanwhile.

    measure.py find VERSION                             prints {"path"}: a halo-perf of that version, or null
    measure.py ports ADDRESS COUNT                      prints {"ports"}: free ones at the address
    measure.py run ROOT INTERFACE DEVICE COMMAND...     runs halo-perf; prints {"result", "counted", "status", "said"}

DEVICE is an RDMA device or `-`. What was counted is the difference of the counters before and after.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import counters
from ports import reserve


def say(**message):
    print(json.dumps(message), flush=True)


def find(version):
    beside = os.path.join(os.path.dirname(sys.executable), "halo-perf")
    for path in (shutil.which("halo-perf"), beside):
        if path and os.access(path, os.X_OK):
            done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
            if done.stdout.split()[-1:] == [version]:
                return say(path=path)
    return say(path=None)


def ports(address, count):
    say(ports=reserve(address, int(count)))


def run(root, interface, device, *command):
    folder = tempfile.mkdtemp(prefix="halo-verify-")
    try:
        result = os.path.join(folder, "result.json")
        before = counters.read(root, interface, device)
        done = subprocess.run(
            [*command, "--json", result],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        after = counters.read(root, interface, device)
        measured = None
        if os.path.exists(result):
            with open(result) as file:
                measured = json.load(file)
        errors = [line.strip() for line in done.stdout.splitlines() if "error[" in line or "caused by" in line]
        say(
            result=measured,
            counted=counters.risen(before, after),
            status=done.returncode,
            said="; ".join(errors or done.stdout.split("\n")[-3:]),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


{"find": find, "ports": ports, "run": run}[sys.argv[1]](*sys.argv[2:])
