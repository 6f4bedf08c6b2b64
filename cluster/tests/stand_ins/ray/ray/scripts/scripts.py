"""Stands in for `ray start --block`: leaves a daemon behind, says that it runs, and waits."""

import os
import signal
import subprocess
import sys

mode = os.environ.get("STAND_IN", "")
if mode == "ray-fails":
    print("RuntimeError: Failed to connect to GCS")
    sys.exit(3)
# A daemon twice removed, in a session of its own.
daemon = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', 'daemon'])"
subprocess.run([sys.executable, "-c", daemon], start_new_session=True, check=True)
if mode != "ray-silent":
    print("Ray runtime started.", flush=True)
signal.pause()
