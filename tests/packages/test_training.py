"""The optimization of a release: the training of the program, and the flags of the second build."""

import importlib.machinery
import importlib.util
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from conftest import ROOT

PACKAGES = ROOT / "infra" / "packages"
PROGRAM = os.environ.get("LOCAL_PROGRAM", ROOT / "target" / "debug" / "acs-identity")


@pytest.fixture
def build(monkeypatch):
    """The build command as a module."""
    monkeypatch.syspath_prepend(str(PACKAGES))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("packages_build", str(PACKAGES / "build"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_every_request_of_the_training_has_the_expected_answer(build):
    build.training.train(PROGRAM, rounds=1)


def test_a_release_is_optimized_for_the_counts_of_its_training(build, monkeypatch, tmp_path):
    triple = f"{platform.machine()}-unknown-linux-musl"
    program = tmp_path / "training" / triple / "release" / "acs-identity"
    program.parent.mkdir(parents=True)
    program.write_text("a program that counts")
    steps = []
    monkeypatch.setattr(build, "TARGET", tmp_path)
    monkeypatch.setattr(build, "run", lambda *command, env=None: steps.append((command, env)))
    monkeypatch.setattr(build.training, "train", steps.append)
    variables = build.flags(triple, "cargo", "build", "--target", triple)
    _, (command, counting), trained, (merge, _) = steps
    assert command == ("cargo", "build", "--target", triple)
    assert counting["RUSTFLAGS"].endswith(f"-Cprofile-generate={tmp_path}/training/counts/{triple}")
    assert trained == program
    counts = merge[merge.index("--output") + 1]
    assert variables["RUSTFLAGS"].endswith(f"-Cprofile-use={counts}")

    program.write_text("another one")
    build.flags.cache_clear()
    assert build.flags(triple, "cargo", "build", "--target", triple) != variables, "cargo builds anew"

    counts.parent.mkdir(parents=True)
    counts.write_text("counts of the first program")
    program.write_text("a program that counts")
    build.flags.cache_clear()
    steps.clear()
    assert build.flags(triple, "cargo", "build", "--target", triple) == variables
    assert program not in steps, "the same program needs no second training"


def test_a_release_for_another_architecture_has_no_training(build, capsys):
    assert build.flags("riscv64gc-unknown-linux-gnu", "cargo", "build") == {}
    assert "riscv64gc-unknown-linux-gnu" in capsys.readouterr().err


def test_the_linker_of_a_counting_build_joins_the_name_of_a_symbol():
    variable = f"CARGO_TARGET_{platform.machine().upper()}_UNKNOWN_LINUX_MUSL_LINKER"
    command = (PACKAGES / "counting_linker", "-o", "a b", "-u", "symbol", "end")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {variable: "echo"})
    assert done.stdout == "-o a b -Wl,-u,symbol end\n"
