"""What one node is like: read, never changed. halo-cluster sends this folder over ssh to the node's python3 and then
speaks JSON, one object a line. Only the standard library is used. Facts are raw; halo-cluster judges them.
"""

import getpass
import glob
import json
import os
import platform
import socket
import sys
import time

import machine
import network
import probes
import software
from reading import parsed, read, sudo, text


def public_key():
    keys = [read(path) for path in sorted(glob.glob(os.path.expanduser("~/.ssh/id_*.pub")))]
    return next((key for key in keys if key), None)


def gather(request):
    root = sudo()
    facts = {
        "user": getpass.getuser(),
        "uid": os.getuid(),
        "home": os.path.expanduser("~"),
        "host": socket.gethostname(),
        "ssh_address": (os.environ.get("SSH_CONNECTION", "").split() + [None] * 4)[2],
        "sudo": root is not None,
        "python3": platform.python_version(),
        "system": machine.system(root or []),
        "memory": machine.memory(),
        "limits": machine.limits(),
        "devices": machine.files(),
        "missing_groups": machine.missing_groups(),
        "interfaces": network.interfaces(),
        "routes": parsed(["ip", "-j", "route"]),
        "rdma": network.rdma_devices(),
        "libibverbs": network.libibverbs(),
        "firewall": network.firewall(root),
        "network_manager": network.network_manager(),
        "packages": machine.packages(request["packages"]),
        "texts": {path: text(path, root) for path in request.get("files", [])},
        "public_key": public_key(),
    }
    if request.get("python"):
        facts["python"] = software.python(request["python"])
    if request.get("container"):
        facts["container"] = software.container(request["container"]["engine"], request["container"]["name"])
    if request.get("model"):
        facts["model"] = software.model(request["model"])
    if request.get("port"):
        facts["port_error"] = software.port_error(request["host"], request["port"])
    return facts


def main():
    work = {"facts": gather, "listen": probes.listen, "probe": probes.probe, "clock": lambda _: {"now": time.time()}}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = {"result": work[request["op"]](request)}
        except Exception as error:  # whatever it is, halo-cluster must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
