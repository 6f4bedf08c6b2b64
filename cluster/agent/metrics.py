"""Counters of one node: read, never changed. halo-cluster sends this file over ssh to the node's python3 and then
speaks JSON, one object a line. What a machine does not tell is null; rates are made by whoever asks twice.
"""

import glob
import http.client
import json
import os
import subprocess
import sys
import time


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def number(path, scale=1):
    text = read(path)
    try:
        return int(text) / scale if scale != 1 else int(text)
    except (TypeError, ValueError):
        return None


def first(paths, scale=1):
    return next((found for path in paths if (found := number(path, scale)) is not None), None)


def hwmon(device):
    return sorted(glob.glob(os.path.join(device, "hwmon/hwmon*")))


def gpus(root):
    found = []
    for device in sorted(glob.glob(os.path.join(root, "sys/class/drm/card[0-9]*/device"))):
        used, total = (
            {kind: number(os.path.join(device, f"mem_info_{kind}_{what}")) for kind in ("vram", "gtt")}
            for what in ("used", "total")
        )
        if total["vram"] is None:
            continue
        # A Strix Halo GPU lives on GTT, a card on its own memory: the larger one is shown.
        kind = max(("vram", "gtt"), key=lambda name: total[name] or 0)
        sensors = hwmon(device)
        found.append(
            {
                "card": device.split("/")[-2],
                "busy_percent": number(os.path.join(device, "gpu_busy_percent")),
                "memory_used": used[kind],
                "memory_total": total[kind],
                "celsius": first([f"{place}/temp1_input" for place in sensors], 1000),
                "watts": first([f"{p}/power1_{w}" for p in sensors for w in ("average", "input")], 1_000_000),
            }
        )
    return found


def processor_celsius(root):
    for place in sorted(glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*"))):
        if read(os.path.join(place, "name")) in ("k10temp", "zenpower", "coretemp", "cpu_thermal"):
            return number(os.path.join(place, "temp1_input"), 1000)
    return None


def link(root, name):
    place = os.path.join(root, "sys/class/net", name)
    if not os.path.isdir(place):
        return None
    counter = lambda what: number(os.path.join(place, "statistics", what))  # noqa: E731
    rdma = {}
    for device in sorted(glob.glob(os.path.join(place, "device/infiniband/*"))):
        for port in sorted(glob.glob(os.path.join(device, "ports/*"))):
            for path in glob.glob(os.path.join(port, "counters/*")) + glob.glob(os.path.join(port, "hw_counters/*")):
                value = number(path)
                if value is not None:
                    rdma[f"{os.path.basename(device)}/{os.path.basename(path)}"] = value
    return {
        "interface": name,
        "carrier": number(os.path.join(place, "carrier")) == 1,
        "speed_mbit": number(os.path.join(place, "speed")),
        "received": counter("rx_bytes"),
        "sent": counter("tx_bytes"),
        "errors": sum(counter(what) or 0 for what in ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped")),
        "rdma": rdma,
    }


def sample(request):
    root = request.get("root", "/")
    fields = [
        int(field) for field in (read(os.path.join(root, "proc/stat")) or "cpu 0 0 0 0").split("\n")[0].split()[1:]
    ]
    lines = (read(os.path.join(root, "proc/meminfo")) or "").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    return {
        "at": time.monotonic(),
        "cpu_total": sum(fields[:8]),
        "cpu_idle": fields[3] + (fields[4] if len(fields) > 4 else 0),
        "memory_total": kib.get("MemTotal", 0) * 1024,
        "memory_available": kib.get("MemAvailable", 0) * 1024,
        "gpus": gpus(root),
        "celsius": processor_celsius(root),
        "links": [found for name in request["interfaces"] if (found := link(root, name))],
    }


def interfaces(request):
    """The interface that holds an address, and that of the default route."""
    found, address = [], request["address"]
    try:
        done = subprocess.run(["ip", "-json", "address"], capture_output=True, text=True, timeout=5)
        for entry in json.loads(done.stdout or "[]"):
            if any(own.get("local") == address for own in entry.get("addr_info", [])):
                found.append(entry["ifname"])
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    for line in (read("/proc/net/route") or "").splitlines()[1:]:
        name, destination = line.split()[:2]
        if destination == "00000000":
            found.append(name)
    return found


def metrics(request):
    """What vLLM tells of itself; null when it does not answer."""
    connection = http.client.HTTPConnection(request["host"], request["port"], timeout=3)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.read().decode(errors="replace") if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


WORK = {"interfaces": interfaces, "sample": sample, "metrics": metrics}
for line in sys.stdin.buffer:
    request = json.loads(line)
    try:
        answer = {"result": WORK[request["op"]](request)}
    except Exception as error:  # whatever it is, whoever asked must hear of it
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
