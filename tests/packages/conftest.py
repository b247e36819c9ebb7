"""Builds each package in the development profile, once for all tests."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# The folder with the packages of the SDKs, as tests/run has installed them.
SDK = ROOT / "tests" / "deploy" / ".venv"
NODE_SDK = ROOT / "tests" / "clients" / "javascript" / "node_modules"


def build(package):
    """Builds a package and returns the files that it consists of."""
    command = (sys.executable, ROOT / "infra" / "packages" / "build", package, "--profile", "dev")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [ROOT / line for line in done.stdout.splitlines()]


@pytest.fixture(scope="session")
def clean_environment():
    """The environment without variables that name servers, certificates or Python packages."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


@pytest.fixture(scope="session")
def wheel_environment(tmp_path_factory):
    """A virtual environment with the wheel, and the SDK from the packages of the tests."""
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    subprocess.run((sys.executable, "-m", "venv", folder), check=True)
    [wheel] = build("wheel")
    subprocess.run((folder / "bin" / "pip", "install", "--quiet", "--no-index", "--no-deps", wheel), check=True)
    # The packages of the tests come after those of the new environment.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages" / "sdk.pth"
    packages.write_text(f"{SDK / 'lib' / version / 'site-packages'}\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def image():
    """The archive of the image."""
    [archive] = build("image")
    return archive
