"""Planted circles for imports.py, and imports that are not a circle.

    python3 -m unittest discover -s tests/docs
"""

import contextlib
import io
import pathlib
import subprocess
import tempfile
import unittest

import imports

FOLDER = pathlib.PurePath("core/src")
CIRCLES = {
    "two modules": ({"a.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"}, "a, b"),
    "three modules": ({"a.rs": "use crate::b::B;", "b.rs": "use crate::c;", "c.rs": "use super::a::A;"}, "a, b, c"),
    "a tree of imports": ({"a.rs": "use crate::{c, b::{self as other, B}};", "b.rs": "use crate::a::A;"}, "a, b"),
    "a tree over several lines": (
        {"a.rs": "use crate::{\n    x::Y,\n    b::B,\n};", "b.rs": "use crate::a::A;"}, "a, b"),
    "a path in the code": ({"a.rs": "fn f() -> crate::b::B { crate::b::f() }", "b.rs": "use crate::a::A;"}, "a, b"),
    "two submodules": (
        {"a/mod.rs": "use self::b::B;", "a/b.rs": "use super::c::C;", "a/c.rs": "use super::b::B;"}, "a::b, a::c"),
    "another folder": (
        {"a/mod.rs": "use self::x::X;", "a/x.rs": "use crate::b::B;", "b.rs": "use crate::a::A;"}, "a, a::x, b"),
    "a folder without mod.rs": ({"a.rs": "", "a/x.rs": "use crate::b::B;", "b.rs": "use crate::a::x::X;"}, "a::x, b"),
}
SOUND = {
    "a chain": {"a.rs": "use crate::b::B;", "b.rs": "use crate::c::C;", "c.rs": "use std::fmt;"},
    "a module and its submodules": {
        "a/mod.rs": "use self::b::B;\nuse self::c::C;", "a/b.rs": "use super::A;\nuse super::c::C;",
        "a/c.rs": "use super::A;"},
    "a comment": {"a.rs": "use crate::b::B;", "b.rs": "// use crate::a::A;\n/// [`crate::a::A`]"},
    "an inline test": {
        "a.rs": "use crate::b::B;", "b.rs": "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"},
    "the root of the crate": {"lib.rs": "pub use crate::a::A;", "a.rs": "use crate::Error;"},
    "another crate": {"a.rs": "use crate::b::B;", "b.rs": "use other::a::A;"},
}


def run(files):
    """The exit status of the check and its output."""
    crate = {FOLDER / name: text for name, text in {"lib.rs": "", **files}.items()}
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = imports.main({FOLDER: crate})
    return status, output.getvalue()


class Imports(unittest.TestCase):
    def test_each_planted_circle_is_found(self):
        for name, (files, circle) in CIRCLES.items():
            with self.subTest(name):
                self.assertEqual(run(files), (1, f"core/src: these modules import each other: {circle}\n"))

    def test_sound_imports_are_accepted(self):
        for name, files in SOUND.items():
            with self.subTest(name):
                self.assertEqual(run(files), (0, ""))

    def test_crates_are_the_folders_with_a_root_file(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
            for name in ("core/src/lib.rs", "core/src/a/b.rs", "tool/main.rs", "build.rs"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text("")
            crates = {str(folder): [str(path) for path in files] for folder, files in imports.read_crates(root).items()}
            self.assertEqual(crates, {"core/src": ["core/src/a/b.rs", "core/src/lib.rs"], "tool": ["tool/main.rs"]})


if __name__ == "__main__":
    unittest.main()
