#!/usr/bin/env python3
"""Checks that the references between documents, code and tests resolve. Prints each fault as `file:line: fault`."""

import pathlib
import posixpath
import re
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMISES = "docs/promises.md"
PLANTED = "tests/docs/test_references.py"  # has faults on purpose
SOURCES = (".rs", ".py", ".js", ".yaml", ".toml", ".sh", ".txt")
PROGRAMS = ("tests/run", ".ci/run")

FENCE = re.compile(r"^ {0,3}(```|~~~)")
HEADING = re.compile(r"^ {0,3}#{1,6} +(.*?)(?: +#+)? *$")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^ {0,3}\[[^\]]+\]:\s+<?([^\s>]+)")
EXTERNAL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:|//)")
MENTION = re.compile(r"(?<![\w-])(?<![\w-]/)(docs/[\w./-]*\w\.md)(?:#([\w-]*))?")
OLD_FORM = re.compile(r"wire[- ]contract[\s/#!*]+sections?\b", re.IGNORECASE)
CODE = re.compile(r"`([^`]+)`")
TEST_FILE = re.compile(r"[\w./-]+/[\w.-]+\.(rs|py)")
SOURCE_PATH = re.compile(r"(benches|docs|functions|infra|shared|tests)/[\w./-]+")
TEST = re.compile(r"([\w./-]+\.(?:rs|py))::(\w+)")


def read_files(root=ROOT):
    """The text of each file that Git tracks or would add, by its path."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    paths = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    paths = [path for path in paths if path not in ("", PLANTED) and (root / path).is_file()]
    return {path: (root / path).read_text(errors="replace") for path in paths}


def prose(text):
    """Number and text of each line outside fenced code."""
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        mark = FENCE.match(line)
        if mark and fence in (None, mark[1]):
            fence = None if fence else mark[1]
        elif not fence:
            yield number, line


def anchors(text):
    """The anchors that GitHub gives to the headings of a Markdown text."""
    found = set()
    for _, line in prose(text):
        if heading := HEADING.match(line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            count = 0
            while (name := f"{slug}-{count}" if count else slug) in found:
                count += 1
            found.add(name)
    return found


def fault_of(files, path, anchor):
    """Why a reference does not resolve, or None."""
    if path not in files and not any(file.startswith(f"{path}/") for file in files):
        return f"{path} does not exist"
    if anchor is not None and anchor not in anchors(files.get(path, "")):
        return f"{path} has no heading for #{anchor}"
    return None


def links(files):
    """Faults of relative links in Markdown."""
    for file, text in files.items():
        for number, line in prose(text) if file.endswith(".md") else ():
            for match in LINK.finditer(CODE.sub("", line)):
                target = urllib.parse.unquote(match[1] or match[2])
                path, hash_sign, anchor = target.partition("#")
                base = "" if path.startswith("/") else posixpath.dirname(file)
                path = posixpath.normpath(posixpath.join(base, path.lstrip("/"))) if path else file
                if not EXTERNAL.match(target) and (fault := fault_of(files, path, anchor if hash_sign else None)):
                    yield file, number, fault


def mentions(files):
    """Faults of documents that source files mention."""
    for file, text in files.items():
        lines = text.splitlines() if file.endswith(SOURCES) or file in PROGRAMS else []
        for number, line in enumerate(lines, 1):
            for match in MENTION.finditer(line):
                if fault := fault_of(files, match[1], match[2]):
                    yield file, number, fault


def old_forms(files):
    """Citations of the wire contract by section number."""
    for file, text in files.items():
        for match in OLD_FORM.finditer(text):
            yield file, text.count("\n", 0, match.start()) + 1, "cite a heading of the contract, not a section number"


def paths(files):
    """Faults of paths of this repository that a document names as code."""
    for file, text in files.items():
        for number, line in prose(text) if file.endswith(".md") else ():
            for code in filter(SOURCE_PATH.fullmatch, CODE.findall(line)):
                if fault := fault_of(files, code.rstrip("/"), None):
                    yield file, number, fault


def has_test(files, file, name):
    pattern = rf"^\s*(pub )?(async )?(fn|def) {re.escape(name)}\b"
    return re.search(pattern, files.get(file, ""), re.MULTILINE) is not None


def named_tests(files):
    """Faults of tests that a document names as `file::test`."""
    for file, text in files.items():
        for number, line in prose(text) if file.endswith(".md") else ():
            for path, name in (match.groups() for code in CODE.findall(line) if (match := TEST.fullmatch(code))):
                if not has_test(files, path, name):
                    yield file, number, f"{path} does not have {name}"


def promised_tests(files):
    """Faults of the table of tests: each row has a file and then the names of tests in it."""
    rows = 0
    for number, line in prose(files.get(PROMISES, "")):
        codes = CODE.findall(line)
        if line.startswith("|") and codes and TEST_FILE.fullmatch(codes[0]):
            rows += 1
            for name in codes[1:] or ["any test"]:
                if not has_test(files, codes[0], name):
                    yield PROMISES, number, f"{codes[0]} does not have {name}"
    if not rows:
        yield PROMISES, 1, "no row names a test"


def main(files):
    """Prints the faults, and returns the exit status."""
    rules = (links, mentions, old_forms, paths, named_tests, promised_tests)
    faults = sorted(fault for rule in rules for fault in rule(files))
    for file, number, fault in faults:
        print(f"{file}:{number}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(read_files()))
