"""Stands in for the tiny model."""

import os
import sys

if os.environ.get("STAND_IN") == "model-fails":
    sys.exit("OSError: disk full")
os.mkdir(sys.argv[1])
with open(os.path.join(sys.argv[1], "config.json"), "w") as file:
    file.write("{}")
