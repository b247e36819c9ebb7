"""Planted faults, one or more for each rule of references.py, each found at its line.

    python3 -m unittest discover -s tests/docs
"""

import contextlib
import io
import pathlib
import subprocess
import tempfile
import unittest

import references

SOUND = {
    "README.md": "# Title\n\n[contract](docs/wire.md#host-value), [folder](docs), [web](https://example.com/x#y), "
                 "`tests/one.rs::first_test`, `tests/one.rs`, `docs/`\n",
    "docs/wire.md": "# Wire\n\n## Host value\n\n[up](../README.md#title), [here](#host-value)\n",
    "docs/promises.md": "# Promises\n\n| S1 | `tests/one.rs` | `first_test`, `second_test` |\n",
    "tests/one.rs": "async fn first_test() {}\n\n    fn second_test() {}\n",
    "src/lib.rs": "//! See docs/wire.md#host-value.\n",
    "tests/run": "#!/bin/sh\n",
}

# The file, its text, and the beginning of the line that reports the fault.
PLANTED = {
    "link to a missing file": ("README.md", "# Title\n\n[x](docs/gone.md)\n", "README.md:3: docs/gone.md does not"),
    "link above the root": ("docs/wire.md", "## Host value\n[x](../../x.md)\n", "docs/wire.md:2: ../x.md does not"),
    "link by reference": ("README.md", "# Title\n\n[x]: docs/gone.md\n", "README.md:3: docs/gone.md does not"),
    "missing anchor of another file": ("README.md", "[x](docs/wire.md#hosts)\n", "README.md:1: docs/wire.md has no"),
    "missing anchor of the same file": ("README.md", "# A\n[x](#b)\n", "README.md:2: README.md has no heading for #b"),
    "heading only in fenced code": (
        "README.md", "```sh\n# Comment\n```\n[x](#comment)\n", "README.md:4: README.md has no heading for #comment"),
    "mention of a missing document": (
        "src/lib.rs", "\n// docs/gone.md\n", "src/lib.rs:2: docs/gone.md does not exist"),
    "mention of a missing anchor": (
        "src/lib.rs", "// docs/wire.md#hosts.\n", "src/lib.rs:1: docs/wire.md has no heading for #hosts"),
    "mention in a program without extension": (
        "tests/run", "# docs/gone.md\n", "tests/run:1: docs/gone.md does not exist"),
    "mention by a relative path": (
        "src/lib.rs", 'include_str!("../../docs/gone.md")\n', "src/lib.rs:1: docs/gone.md does not exist"),
    "section number with a hyphen": ("src/lib.rs", "// wire-contract section 7.3\n", "src/lib.rs:1: cite a heading"),
    "section number in other letter case": (
        "README.md", "# Title\n\nWire-Contract Sections 8 and 9\n", "README.md:3: cite a heading"),
    "section number with a space": (
        "src/lib.rs", "// wire contract section 7\n", "src/lib.rs:1: cite a heading"),
    "section number across two lines": (
        "src/lib.rs", "\n/// wire-contract\n/// section 7\n", "src/lib.rs:2: cite a heading"),
    "missing test": (
        "tests/one.rs", "fn first_test() {}\nfn second_test_too() {}\n",
        "docs/promises.md:3: tests/one.rs does not have second_test"),
    "test in a comment": (
        "tests/one.rs", "fn first_test() {}\n// fn second_test() {}\n",
        "docs/promises.md:3: tests/one.rs does not have second_test"),
    "missing file of a test": (
        "docs/promises.md", "| S1 | `tests/gone.py` | `test_x` |\n",
        "docs/promises.md:1: tests/gone.py does not have test_x"),
    "file without a test": (
        "docs/promises.md", "| S1 | `tests/one.rs` | |\n", "docs/promises.md:1: tests/one.rs does not have any test"),
    "path of a missing file": ("README.md", "# Title\n\n`docs/gone.rs`\n", "README.md:3: docs/gone.rs does not exist"),
    "path of a missing folder": ("README.md", "# Title\n\n`tests/gone/`\n", "README.md:3: tests/gone does not exist"),
    "missing test of a document": (
        "README.md", "# Title\n\nRun `tests/one.rs::third_test`.\n",
        "README.md:3: tests/one.rs does not have third_test"),
    "missing file of a document's test": (
        "README.md", "# Title\n\n`tests/gone.py::first_test`\n", "README.md:3: tests/gone.py does not have first_test"),
    "promises without tests": ("docs/promises.md", "# Promises\n", "docs/promises.md:1: no row names a test"),
}


def run(files):
    """The exit status of the checker and the lines that it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        status = references.main(files)
    return status, output.getvalue().splitlines()


class References(unittest.TestCase):
    def test_sound_files_have_no_fault(self):
        self.assertEqual(run(SOUND), (0, []))

    def test_each_planted_fault_is_found(self):
        for name, (file, text, report) in PLANTED.items():
            with self.subTest(name):
                status, lines = run(SOUND | {file: text})
                self.assertEqual(status, 1)
                self.assertTrue(any(line.startswith(report) for line in lines), lines)

    def test_anchors_are_those_of_github(self):
        text = "# A `b_c` (d, e)\n## API's [own](x.md) key\n## Same\n## Same\n### Clock & replay ###\n"
        expected = {"a-b_c-d-e", "apis-own-key", "same", "same-1", "clock--replay"}
        self.assertEqual(references.anchors(text), expected)

    def test_code_and_other_texts_have_no_links(self):
        text = "# Title\n\n`[x](gone.md)`\n\n```\n[x](gone.md)\n```\n"
        self.assertEqual(run(SOUND | {"README.md": text, "data.json": "[x](gone.md)"}), (0, []))

    def test_files_are_read_before_they_are_committed(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
            (root / ".gitignore").write_text("ignored.md\n")
            (root / "ignored.md").write_text("")
            (root / "new.md").write_text("# New\n")
            self.assertEqual(references.read_files(root), {".gitignore": "ignored.md\n", "new.md": "# New\n"})


if __name__ == "__main__":
    unittest.main()
