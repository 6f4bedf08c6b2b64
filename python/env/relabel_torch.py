"""Rewrites PyPI's torch wheel as version X+cpu, without its requirements on CUDA packages.

usage: relabel_torch.py WHEEL FOLDER

A wheel is a zip whose RECORD lists every file with its hash; only METADATA changes, and the name of its folder.
"""

import base64
import hashlib
import pathlib
import re
import sys
import zipfile

CUDA_REQUIREMENT = re.compile(r"^Requires-Dist: (cuda-|nvidia-|triton)")


def cpu_metadata(text: str, version: str) -> str:
    lines = [line for line in text.split("\n") if not CUDA_REQUIREMENT.match(line)]
    return "\n".join(lines).replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n", 1)


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}"


def main(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    version = wheel.name.split("-")[1]
    before, after = f"torch-{version}.dist-info/", f"torch-{version}+cpu.dist-info/"
    target = folder / wheel.name.replace(f"torch-{version}-", f"torch-{version}+cpu-", 1)
    partial = target.with_suffix(".partial")
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as result,
    ):

        def add(entry: zipfile.ZipInfo, data: bytes) -> None:
            copy = zipfile.ZipInfo(entry.filename.replace(before, after, 1), entry.date_time)
            copy.external_attr = entry.external_attr
            result.writestr(copy, data)

        metadata = cpu_metadata(source.read(before + "METADATA").decode(), version).encode()
        for entry in source.infolist():
            if entry.is_dir() or entry.filename == before + "RECORD":
                continue
            add(entry, metadata if entry.filename == before + "METADATA" else source.read(entry))
        record = source.getinfo(before + "RECORD")
        lines = source.read(record).decode().splitlines()
        changed = record_line(after + "METADATA", metadata)
        renamed = [line.replace(before, after, 1) for line in lines]
        renamed = [changed if line.startswith(after + "METADATA,") else line for line in renamed]
        add(record, ("\n".join(renamed) + "\n").encode())
    partial.rename(target)
    print(target)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
