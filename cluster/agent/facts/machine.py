"""The machine: system, memory, limits, packages, devices."""

import getpass
import glob
import grp
import os
import platform
import re
import resource
import shutil

from reading import number, read, run, said


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


def missing_groups():
    """The groups of device files that this user may not open, and is not in, as far as the system's database goes."""
    member, found = os.getgrouplist(getpass.getuser(), os.getgid()), set()
    for path, may in files().items():
        status = os.stat(path)
        if may != "rw" and status.st_mode & 0o060 == 0o060 and status.st_gid not in [0, *member]:
            found.add(grp.getgrgid(status.st_gid).gr_name)
    return sorted(found)


def access(path):
    """`rw`, `r`, or nothing."""
    return "".join(letter for letter, mode in (("r", os.R_OK), ("w", os.W_OK)) if os.access(path, mode))


def files():
    devices = ["/dev/kfd", *sorted(glob.glob("/dev/dri/renderD*")), *sorted(glob.glob("/dev/infiniband/uverbs*"))]
    return {path: access(path) for path in devices if os.path.exists(path)}
