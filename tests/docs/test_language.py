"""Tests the language check: each planted fault exceeds a limit, and the units are counted as documented.

    python3 -m unittest discover -s tests/docs
"""

import contextlib
import io
import unittest
from unittest import mock

import language

CLEAN = {
    "a.rs": "/// The caller sends a signed request.\nfn a() {}\n#[test]\nfn wrong_keys_are_denied() {}\n",
    "a.md": "# The keys\n\nThe service publishes the public keys.\n",
    "a.py": '"""The module signs requests."""\n\n\ndef test_wrong_key_is_denied():\n    pass\n',
    "a.js": '// The client sends one request.\ntest("wrong key is denied", () => {});\n',
    "a.yaml": "# The table keeps the state.\nkey: value\n",
    "a.toml": "# The core has no network.\nkey = 1\n",
    "run": "#!/usr/bin/env bash\n# The script runs every test.\n",
}
FAULTS = {
    "P1": "Whoever calls must sign.",
    "P3": "The reply says what is wrong.",
    "P8": "The gateway forgets the escapes.",
}
COMMENTS = {
    "a.rs": "//! {}\n", "a.md": "{}\n", "a.py": "# {}\n", "a.js": "// {}\n", "a.yaml": "# {}\n", "a.toml": "# {}\n",
    "run": "#!/bin/sh\n# {}\n",
}


def hits(path, text):
    return [hit.pattern for hit in language.count([(path, text)])[1]]


def units(path, text, kind):
    return [unit.text for unit in language.units(language.kind_of(path, text), text) if unit.kind == kind]


def run(files, *arguments):
    """Returns the exit status and the output of the check over these files."""
    output = io.StringIO()
    with mock.patch.object(language, "tracked", return_value=list(files.items())), contextlib.redirect_stdout(output):
        return language.main(arguments), output.getvalue()


class Limits(unittest.TestCase):
    def test_clean_files_pass(self):
        self.assertEqual(run(CLEAN)[0], 0)

    def test_planted_sentence_exceeds_its_limit_in_every_language(self):
        for path, comment in COMMENTS.items():
            for pattern, fault in FAULTS.items():
                with self.subTest(path=path, pattern=pattern):
                    planted = comment.format(fault)
                    self.assertEqual(hits(path, planted), [pattern])
                    status, output = run({**CLEAN, path: planted}, "--list")
                    self.assertEqual(status, 1)
                    self.assertIn(language.PATTERNS[pattern].mistake, output)
                    self.assertRegex(output, rf"(?m)^{path}:\d: {pattern}: {fault}$")

    def test_planted_test_name_exceeds_its_limit(self):
        for path, text in {
            "a.rs": "#[tokio::test]\nasync fn what_no_rule_names() {}\n",
            "a.py": "def test_who_is_denied():\n    pass\n",
            "a.js": 'test("nobody gets a token", () => {});\n',
        }.items():
            with self.subTest(path=path):
                self.assertEqual(hits(path, text), ["P2"])
                self.assertEqual(run({**CLEAN, path: text})[0], 1)

    def test_every_pattern_has_a_planted_fault(self):
        self.assertEqual(set(FAULTS) | {"P2"}, set(language.PATTERNS))

    def test_empty_repository_fails(self):
        with self.assertRaises(SystemExit):
            run({})

    def test_limit_itself_is_allowed(self):
        clean = "The key is new.\n\n" * 99
        self.assertEqual(run({"a.md": clean + "Who sends the key?\n"})[0], 0)
        self.assertEqual(run({"a.md": clean + "Who sends the key?\n\nWho signs the key?\n"})[0], 1)


class Counting(unittest.TestCase):
    def test_adjacent_comment_lines_are_joined(self):
        text = "/// The first sentence\n/// has two lines. Here is\n// the second one.\nfn a() {}\n// The third one.\n"
        expected = ["The first sentence has two lines.", "Here is the second one.", "The third one."]
        self.assertEqual(units("a.rs", text, "sentences"), expected)
        self.assertEqual(len(units("a.rs", text, "lines")), 4)

    def test_short_sentences_and_trailing_comments_are_dropped(self):
        text = "// In bytes.\n// Who knows?\nlet a = 1; // Whoever reads this line.\n//\n"
        self.assertEqual(units("a.rs", text, "sentences"), [])
        self.assertEqual(len(units("a.rs", text, "lines")), 2)

    def test_line_of_a_sentence_is_reported(self):
        [hit] = language.count([("a.rs", "fn a() {}\n// One fact is here.\n// Nobody else waits here.\n")])[1]
        self.assertEqual(hit.line, 3)

    def test_markdown_code_blocks_are_dropped(self):
        self.assertEqual(hits("a.md", "Text before the block.\n\n```sh\nWho sends the key?\n```\n"), [])

    def test_table_cells_headings_and_items_are_separate_sentences(self):
        text = "# A short heading\nThe text of it\n\n* one list item\n* the other item\n\n| The first cell | No |\n|---|---|\n"
        expected = ["A short heading", "The text of it", "one list item", "the other item", "The first cell"]
        self.assertEqual(units("a.md", text, "sentences"), expected)

    def test_docstrings_and_block_comments_count(self):
        self.assertEqual(hits("a.py", 'class A:\n    def b(self):\n        """Nobody calls this method."""\n'), ["P1"])
        self.assertEqual(hits("a.py", 'A = """Nobody reads this text."""\n'), [])
        self.assertEqual(hits("a.js", "/** Nobody calls this function. */\n"), ["P1"])

    def test_other_kinds_of_files_are_left_out(self):
        for path in ("LICENSE", "Cargo.lock", "data.json", "image.png"):
            self.assertIsNone(language.kind_of(path, "Who sends the key?"))


if __name__ == "__main__":
    unittest.main()
