#!/usr/bin/env python3
"""Checks that the files of a Rust crate do not import each other in a circle. Prints each circle with its files.

A module and its submodules may import each other. Inline tests do not count.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = re.compile(r"^#\[cfg\(test\)\]\nmod tests \{.*", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"//.*")
# An import, or a path of two names or more within the code.
PATH = re.compile(r"\buse (crate|self|super)((?:::super)*)::([^;]+);|\b(crate|super)((?:::super)*)::(\w+(?:::\w+)+)")


def read_crates(root=ROOT):
    """The text of each Rust file that Git tracks or would add, by its path, for each folder of a crate."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.rs"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
    paths = [pathlib.PurePath(path) for path in listed if path and (root / path).is_file()]
    folders = sorted({path.parent for path in paths if path.name in ("lib.rs", "main.rs")})
    return {folder: {path: (root / path).read_text() for path in paths if path.is_relative_to(folder)}
            for folder in folders}


def module_of(folder, path):
    """The path of a file's module in its crate, as a tuple of names. The root of the crate is empty."""
    names = path.relative_to(folder).with_suffix("").parts
    return names[:-1] if names[-1] in ("lib", "main", "mod") else names


def leaves(tree):
    """Splits the tree of an import, such as `a::{b, c::{d, e}}`, into the names of each path."""
    while braces := re.search(r"([\w:]*)\{([^{}]*)\}", tree):
        items = [braces[1] + item.strip() for item in braces[2].split(",") if item.strip()]
        tree = tree[:braces.start()] + ", ".join(items) + tree[braces.end():]
    return [tuple(re.sub(r" as .*", "", path).strip().split("::")) for path in tree.split(",")]


def imports(module, text, modules):
    """The modules that a file imports, apart from itself and the root of the crate."""
    found = set()
    for use, use_supers, tree, inline, inline_supers, path in PATH.findall(COMMENT.sub("", TESTS.sub("", text))):
        supers = (use_supers or inline_supers).count("super") + ((use or inline) == "super")
        base = () if (use or inline) == "crate" else module[:len(module) - supers]
        for leaf in leaves(tree or path):
            target = base + leaf
            while target not in modules:
                target = target[:-1]
            found.add(target)
    return found - {module, ()}


def reachable(graph, start):
    """The modules that a module imports, directly or through others."""
    seen, todo = set(), [start]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def circles(graph):
    """Yields each group of modules that import each other, without the permitted ones."""
    reached = {module: reachable(graph, module) for module in graph}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph}
    for group in sorted(groups - {frozenset()}, key=sorted):
        top = min(group, key=len)
        rest = group - {top}
        if all(module[:len(top)] == top for module in rest):
            yield from circles({module: graph[module] & rest for module in rest})
        else:
            yield sorted(group)


def main(crates):
    """Prints the circles, and returns the exit status."""
    status = 0
    for folder, files in crates.items():
        modules = {module_of(folder, path) for path in files} | {()}
        graph = {module: set() for module in modules}
        for path, text in files.items():
            graph[module_of(folder, path)] |= imports(module_of(folder, path), text, modules)
        for circle in circles(graph):
            print(f"{folder}: these modules import each other: {', '.join(map('::'.join, circle))}")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(read_crates()))
