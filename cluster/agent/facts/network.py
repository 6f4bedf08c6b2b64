"""The network: interfaces, RDMA devices, firewall, NetworkManager."""

import glob
import os
import re
import shutil

from reading import link_name, number, parsed, read, said, text


def interfaces():
    found = []
    described = {entry.get("ifname"): entry for entry in parsed(["ip", "-j", "address"])}
    for name in sorted(os.listdir("/sys/class/net")):
        place = f"/sys/class/net/{name}"
        if name == "lo" or not os.path.isdir(place):
            continue
        device, addresses = os.path.realpath(f"{place}/device"), described.get(name, {}).get("addr_info", [])
        entry = {
            "name": name,
            "mac": read(f"{place}/address"),
            "permanent_mac": described.get(name, {}).get("permaddr") or read(f"{place}/address"),
            "mtu": number(f"{place}/mtu"),
            "carrier": read(f"{place}/carrier") == "1",
            "speed_mbit": number(f"{place}/speed"),
            "driver": link_name(f"{place}/device/driver"),
            "physical": os.path.exists(f"{place}/device"),
            "pci": os.path.basename(device) if os.path.exists(f"{device}/vendor") else None,
            "vendor": read(f"{place}/device/vendor"),
            "pcie_speed": read(f"{place}/device/current_link_speed"),
            "pcie_width": number(f"{place}/device/current_link_width"),
            "rdma": (sorted(glob.glob(f"{place}/device/infiniband/*")) or [None])[0],
            "addresses": [[item["local"], item["prefixlen"]] for item in addresses if "local" in item],
        }
        entry["rdma"] = entry["rdma"] and os.path.basename(entry["rdma"])
        if entry["physical"] and shutil.which("ethtool"):
            found_firmware = re.search(r"^firmware-version: (.+)$", said(["ethtool", "-i", name]) or "", re.MULTILINE)
            port = re.search(r"^\s*Port: (.+)$", said(["ethtool", name]) or "", re.MULTILINE)
            entry["firmware"] = found_firmware.group(1).strip() if found_firmware else None
            entry["port"] = port.group(1).strip() if port else None
        found.append(entry)
    return found


def rdma_devices():
    found = []
    for place in sorted(glob.glob("/sys/class/infiniband/*")):
        gids = []
        for file in sorted(glob.glob(f"{place}/ports/*/gids/*")):
            port, index = file.split("/")[-3], file.split("/")[-1]
            attributes = f"{place}/ports/{port}/gid_attrs"
            kind, gid = read(f"{attributes}/types/{index}"), read(file)
            if kind and gid and gid.strip("0:"):
                interface = read(f"{attributes}/ndevs/{index}")
                gids.append({"index": int(index), "gid": gid, "type": kind, "interface": interface})
        parent = sorted(glob.glob(f"{place}/device/net/*"))
        found.append(
            {
                "name": os.path.basename(place),
                "interface": os.path.basename(parent[0]) if parent else None,
                "node_type": read(f"{place}/node_type"),
                "state": read(f"{place}/ports/1/state"),
                "gids": gids,
            }
        )
    return found


def firewall(root):
    """The zones of interfaces that have one, and what a zone does with what no rule of it knows."""
    state = said([*(root or []), "firewall-cmd", "--state"])
    zones, targets, zone = {}, {}, None
    active = said([*(root or []), "firewall-cmd", "--get-active-zones"]) if state == "running" else None
    for line in (active or "").splitlines():
        if not line.startswith(" "):
            zone = line.split()[0]
        elif line.strip().startswith("interfaces:"):
            zones.update(dict.fromkeys(line.split()[1:], zone))
    for zone in set(zones.values()):
        own = text(f"/etc/firewalld/zones/{zone}.xml", root) or read(f"/usr/lib/firewalld/zones/{zone}.xml") or ""
        target = re.search(r'<zone[^>]*\btarget="([^"]*)"', own)
        targets[zone] = target.group(1) if target else "default"
    ufw = said([*root, "ufw", "status"]) if root is not None and shutil.which("ufw") else None
    return {"firewalld": state == "running", "zones": zones, "targets": targets, "ufw": ufw}


def network_manager():
    if said(["systemctl", "is-active", "NetworkManager"]) != "active":
        return {"running": False, "connections": []}
    out = said(["nmcli", "-t", "-f", "UUID,DEVICE,TYPE,NAME", "connection", "show", "--active"]) or ""
    rows = [line.split(":", 3) for line in out.splitlines() if line.count(":") >= 3]
    return {
        "running": True,
        "connections": [{"uuid": row[0], "interface": row[1], "name": row[3].replace("\\:", ":")} for row in rows],
    }


def libibverbs():
    """The version of rdma-core, from the library's file name: libibverbs.so.1.14.44.0 is of rdma-core 44."""
    listed = re.search(r"libibverbs\.so\.1 .*=> (\S+)", said(["ldconfig", "-p"]) or "")
    found = re.search(r"\.so\.1\.\d+\.(\d+)\.", os.path.realpath(listed.group(1)) if listed else "")
    return int(found.group(1)) if found else None
