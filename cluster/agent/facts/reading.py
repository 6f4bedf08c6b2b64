"""How files are read and commands are asked: every one with its time limit, so that an answer comes always."""

import json
import os
import subprocess

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
