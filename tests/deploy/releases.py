"""Releases of small functions, made by infra/release."""

import hashlib
import pathlib
import subprocess
import sys

import template as sam

PROGRAM = sam.ROOT / "infra" / "release"
NAMES = sorted(path.stem for path in (sam.ROOT / "functions" / "src" / "bin").iterdir())


def binaries(folder, content):
    """Makes a folder as `cargo lambda build` makes it."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "bootstrap").write_bytes(content)
    return folder


def packed(folder, content, *options):
    """Packs a release. Returns its folder and its zip."""
    made = binaries(folder / "binaries", content)
    command = [sys.executable, PROGRAM, "--binaries", made, "--out", folder / "out", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    digest, archive = done.stdout.split()
    archive = pathlib.Path(archive)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest
    return archive.with_suffix(""), archive
