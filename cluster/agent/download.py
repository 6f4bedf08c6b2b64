"""Fetches a model from the hub into a folder of this node. Arguments: repository, revision, folder.

Prints JSON lines: {"done", "total"} in bytes while it runs; {"folder", "bytes", "commit"} at the end; {"failure",
"text"} and status 1 when it cannot. The token, if one is needed, is in the environment (HF_TOKEN) and nowhere else.
"""

import errno
import fnmatch
import json
import os
import shutil
import sys
import threading
import time

STALL = 300  # seconds without a byte after which the hub counts as gone
# Second copies of the weights in formats that vLLM does not load.
SKIP = ["original/*", "metal/*", "*.gguf", "*.pth", "*.onnx", "onnx/*", "*.h5", "*.msgpack"]


def say(**message):
    print(json.dumps(message), flush=True)


def fail(kind, text):
    token = os.environ.get("HF_TOKEN")
    text = " ".join(str(text).split())
    say(failure=kind, text=text.replace(token, "(token)") if token else text)
    os._exit(1)


def size_of(folder):
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def watch(folder, total, ended):
    last, since = -1, time.monotonic()
    while not ended.wait(0.5):
        done = size_of(folder)
        if done != last:
            last, since = done, time.monotonic()
            say(done=min(done, total), total=total)
        elif time.monotonic() - since > STALL:
            fail("network", f"no byte came for {STALL} s")


def main(repository, revision, folder):
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        fail("module", error)
    try:
        files = huggingface_hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
        wanted = {
            file.rfilename: file.size or 0
            for file in files.siblings
            if not any(fnmatch.fnmatch(file.rfilename, pattern) for pattern in SKIP)
        }
        total = sum(wanted.values())
        # A folder that is there already is completed in place; a new one gets its name when it is whole.
        beside = folder if os.path.isdir(folder) else folder + ".partial"
        os.makedirs(beside, exist_ok=True)
        present = sum(
            size
            for name, size in wanted.items()
            if os.path.exists(os.path.join(beside, name)) and os.path.getsize(os.path.join(beside, name)) == size
        )
        free = shutil.disk_usage(beside).free
        if total - present > free:
            fail("disk", f"{total - present} bytes are to come, {free} are free at {beside}")
        ended = threading.Event()
        threading.Thread(target=watch, args=(beside, total, ended), daemon=True).start()
        huggingface_hub.snapshot_download(
            repository, revision=files.sha, local_dir=beside, ignore_patterns=SKIP, max_workers=4
        )
        ended.set()
        for name, size in wanted.items():
            got = os.path.getsize(os.path.join(beside, name))
            if got != size:
                fail("network", f"{name} has {got} bytes, the hub says {size}")
        if beside != folder:
            os.rename(beside, folder)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        kind = {401: "token", 403: "token", 404: "repository"}.get(status, "network")
        fail(kind, f"the hub answered {status}: {error.server_message or error}" if status else error)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        local = full or isinstance(error, (PermissionError, FileExistsError, NotADirectoryError))
        fail("disk" if local else "network", error)
    except Exception as error:  # whatever the library raises, the launcher must hear of it in one line
        fail("network", f"{type(error).__name__}: {error}")
    say(folder=folder, bytes=total, commit=files.sha)


main(*sys.argv[1:])
