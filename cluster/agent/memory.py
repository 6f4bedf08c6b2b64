"""What a model finds on this node, as one line of JSON: memory, GPUs, room on the disk.

Arguments: a folder that need not exist yet, and the root of the system's files (`/` but in tests).
"""

import glob
import json
import os
import sys


def read(path, default=None):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return default


def main(folder, root):
    lines = read(os.path.join(root, "proc/meminfo"), "").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    gpus = []
    for device in sorted(glob.glob(os.path.join(root, "sys/class/drm/card[0-9]*/device"))):
        # amdgpu's own accounts: memory set aside by the firmware, and main memory that the GPU may map.
        vram, gtt = (read(os.path.join(device, f"mem_info_{kind}_total")) for kind in ("vram", "gtt"))
        if vram and gtt:
            gpus.append({"card": device.split("/")[-2], "vram": int(vram), "gtt": int(gtt)})
    place = os.path.abspath(folder)
    while not os.path.isdir(place) and place != "/":
        place = os.path.dirname(place)
    room = os.statvfs(place)
    answer = {
        "memory": kib.get("MemTotal", 0) * 1024,
        "gpus": gpus,
        "disk_free": room.f_bavail * room.f_frsize,
        "disk_at": place,
    }
    print(json.dumps(answer), flush=True)


main(*sys.argv[1:])
