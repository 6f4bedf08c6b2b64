"""What a launch needs of a node: its addresses, a halo that can be imported, room in /dev/shm, free ports."""

import ctypes
import importlib.util
import os
import socket
import subprocess
import sys

from ports import reserve


def interface_addresses():
    """[(interface, address)] of this node, by getifaddrs."""

    class Ifaddrs(ctypes.Structure):
        pass

    Ifaddrs._fields_ = [
        ("next", ctypes.POINTER(Ifaddrs)),
        ("name", ctypes.c_char_p),
        ("flags", ctypes.c_uint),
        ("address", ctypes.c_void_p),
    ]
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(Ifaddrs)()
    if libc.getifaddrs(ctypes.byref(first)) != 0:
        raise OSError(ctypes.get_errno(), "getifaddrs")
    found, entry = [], first
    while entry:
        item = entry.contents
        if item.address:
            family = ctypes.c_ushort.from_address(item.address).value
            # struct sockaddr_in holds its address at byte 4, sockaddr_in6 at byte 8.
            if family == socket.AF_INET:
                raw = ctypes.string_at(item.address + 4, 4)
                found.append((item.name.decode(), socket.inet_ntop(family, raw)))
            elif family == socket.AF_INET6:
                raw = ctypes.string_at(item.address + 8, 16)
                found.append((item.name.decode(), socket.inet_ntop(family, raw)))
        entry = item.next
    libc.freeifaddrs(first)
    return found


def import_error(module):
    """Why `module` cannot be imported; a native module may be found and yet not load."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module}"],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "the import took more than 60 s"
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[-1]


def check(request):
    found = interface_addresses()
    facts = {"addresses": found, "halo_import": None, "shm_free": None, "ports": []}
    if importlib.util.find_spec("halo") is not None:
        facts["halo_import"] = import_error("halo")
    if os.path.isdir("/dev/shm"):
        room = os.statvfs("/dev/shm")
        facts["shm_free"] = room.f_bavail * room.f_frsize
    if any(address == request["address"] for _, address in found):
        facts["ports"] = reserve(request["address"], 3)
    return facts
