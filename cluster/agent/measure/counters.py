"""What an interface and an RDMA device of this node have counted."""

import glob
import os


def read(root, interface, device):
    """Every counter by its file's name; DEVICE is an RDMA device or `-`."""
    paths = glob.glob(os.path.join(root, "sys/class/net", interface, "statistics/[rt]x_*"))
    if device != "-":
        place = os.path.join(root, "sys/class/infiniband", device, "ports/*")
        paths += glob.glob(os.path.join(place, "counters/*")) + glob.glob(os.path.join(place, "hw_counters/*"))
    found = {}
    for path in paths:
        try:
            with open(path) as file:
                found[os.path.basename(path)] = int(file.read())
        except (OSError, ValueError):
            continue
    return found


def risen(before, after):
    """How much each rose, of those that did."""
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
