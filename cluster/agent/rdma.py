"""RDMA ports of this node by which an address is reached: their GID table is searched, never a fixed index taken.

Arguments: the address, and the root of the system's files (`/` but in tests). Prints one line of JSON: {"ports"}, those
whose RoCE v2 GID is the address, and {"others"}, what else there is, in words.
"""

import glob
import ipaddress
import json
import os
import sys


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def main(address, root):
    wanted = ipaddress.ip_address(address)
    wanted = wanted if wanted.version == 6 else ipaddress.ip_address(f"::ffff:{wanted}")
    ports, others = [], []
    for port in sorted(glob.glob(os.path.join(root, "sys/class/infiniband/*/ports/*"))):
        device, number = port.split("/")[-3], int(os.path.basename(port))
        state, found = read(os.path.join(port, "state")), None
        kinds = set()
        for path in sorted(glob.glob(os.path.join(port, "gids/*")), key=lambda path: int(os.path.basename(path))):
            index, gid = int(os.path.basename(path)), read(path)
            kind = read(os.path.join(port, "gid_attrs/types", str(index)))
            if not kind or set(gid) <= {"0", ":"}:
                continue
            kinds.add(kind)
            if kind == "RoCE v2" and found is None and ipaddress.ip_address(gid) == wanted:
                found = {"device": device, "port": number, "gid_index": index, "active": "ACTIVE" in state}
        if found:
            ports.append(found)
        else:
            others.append(f"{device}:{number} ({state or 'no state'}; GIDs: {', '.join(sorted(kinds)) or 'none'})")
    print(json.dumps({"ports": ports, "others": others}), flush=True)


main(*sys.argv[1:])
