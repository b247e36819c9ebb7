#!/usr/bin/env python3
"""Counts the patterns that make comments, test names and documents hard to read.

    python3 tests/docs/language.py          prints the figures, and fails over a limit
    python3 tests/docs/language.py --list   also prints every hit as file:line

Every tracked file of the kinds below counts. A comment counts when it starts its line. Adjacent comment lines are
joined and split into sentences. A Markdown paragraph, heading, list item or table cell is split in the same way. Code
blocks in Markdown are dropped, and so are sentences under three words. Lock files, data files and the licence are of
other kinds.
"""

import ast
import collections
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
GROUPS = {"rs": "Rust", "md": "Markdown"}
OTHER = "other languages"

Pattern = collections.namedtuple("Pattern", "unit limit regex mistake")
Unit = collections.namedtuple("Unit", "kind line text")
Hit = collections.namedtuple("Hit", "group pattern path line text")

# A limit is a percentage of the units.
PATTERNS = {
    "P1": Pattern(
        "sentences", 1, re.compile(r"^(What|Who|Whose|Whom|Whoever|Whatever|Nobody|Nothing|None|Alone)\b"),
        "The subject is a clause or an indefinite pronoun. Name the subject with a noun."),
    "P2": Pattern(
        "test names", 0, re.compile(r"^(what|who|whoever|whose|whatever|nobody|nothing|alone)_"),
        "The test name begins with a clause or an indefinite pronoun. Write the condition, then the result."),
    "P3": Pattern(
        "lines", 1, re.compile(
            r"\b[Ww]hat (is|no|has|was|cannot|can|may|must|they|it|others|stands|comes|anyone|each|every|nobody|none"
            r"|one|does|did|goes|went|somebody|decides|follows|failed|a|an|the|this)\b"),
        "A free relative clause stands in place of a noun. Name the thing."),
    "P8": Pattern(
        "sentences", 1, re.compile(
            r"\b(stranger|whoever|somebody|nobody|anybody|lives?|alive|dead|born|dies|died|speaks?|asks?|knows?"
            r"|forgets?|forgotten|told|remember(s|ed)?|obeys?|patience|farewell|in vain|to spare|had its day|harsh"
            r"|mends?)\b"),
        "The sentence is a pun, or a thing acts like a person. Use the term of the field."),
}

HASH_COMMENT = re.compile(r"^\s*#(?!!)(.*)$")
COMMENTS = {
    "rs": re.compile(r"^\s*//[/!]?(.*)$"),
    "js": re.compile(r"^\s*(?://|/\*\*?|\*(?=\s))(.*?)(?:\*/)?$"),
    **dict.fromkeys(("py", "yaml", "yml", "toml", "sh", "ini", "txt"), HASH_COMMENT),
}
TEST_NAMES = {
    "rs": re.compile(
        r"#\[(?:tokio::|test_log::)?(?:test|rstest)[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:async )?fn ([a-z0-9_]+)"),
    "py": re.compile(r"^\s*(?:async )?def test_(\w+)", re.MULTILINE),
    "js": re.compile(r"""\b(?:test|describe)\(\s*["'`]([^"'`]+)"""),
}


def tracked():
    """Yields the path and the text of every tracked file of a counted kind."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in names.split("\0"):
        path = ROOT / name
        if path.is_file() and (kind_of(name, "") or path.read_bytes().startswith(b"#!")):
            yield name, path.read_text(encoding="utf-8")


def kind_of(path, text):
    """The kind of a file by its suffix. A script without a suffix is a shell script."""
    suffix = pathlib.PurePath(path).suffix.removeprefix(".")
    if suffix in COMMENTS or suffix == "md":
        return suffix
    return "sh" if not suffix and text.startswith("#!") else None


def comment_lines(kind, text):
    """The text of every comment line, by line number."""
    matches = {number: COMMENTS[kind].match(line) for number, line in enumerate(text.splitlines(), 1)}
    found = {number: match[1] for number, match in matches.items() if match and match[1].strip()}
    return found | docstring_lines(text) if kind == "py" else found


def docstring_lines(text):
    found = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (ast.get_docstring(node, clean=False) or "").splitlines()
            first = node.body[0].lineno if lines else 0
            found |= {number: line for number, line in enumerate(lines, first) if line.strip()}
    return found


def prose_lines(text):
    """The text of every Markdown line outside code blocks, by line number."""
    found, fenced = {}, False
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*(```|~~~)", line):
            fenced = not fenced
        elif not fenced and line.strip():
            found[number] = line
    return found


def runs(lines, is_prose):
    """Joins adjacent lines. In prose, every table cell, heading and list item is separate."""
    joined, last = [], None
    for number, line in sorted(lines.items()):
        item = re.match(r"\s*([*+-] |\d+\. |#+ |(?=\|))", line) if is_prose else None
        if item and line.lstrip().startswith("|"):
            joined += [[number, cell] for cell in line.split("|") if cell.strip(" -:")]
            last = None
        elif item or last is None or number != last + 1:
            joined.append([number, line[item.end():] if item else line])
            last = None if item and "#" in item[1] else number
        else:
            joined[-1][1] += "\n" + line
            last = number
    return joined


def sentences(joined):
    """Yields the line number and the text of every sentence of three words or more."""
    for number, text in joined:
        for match in re.finditer(r"\S.*?(?:(?<=[.!?])(?=\s)|\Z)", text, re.DOTALL):
            words = match[0].split()
            if len(words) >= 3:
                yield number + text.count("\n", 0, match.start()), " ".join(words)


def units(kind, text):
    """Yields every line, sentence and test name of a file."""
    lines = prose_lines(text) if kind == "md" else comment_lines(kind, text)
    yield from (Unit("lines", number, line.strip()) for number, line in lines.items())
    yield from (Unit("sentences", *sentence) for sentence in sentences(runs(lines, kind == "md")))
    for match in TEST_NAMES[kind].finditer(text) if kind in TEST_NAMES else ():
        yield Unit("test names", text.count("\n", 0, match.start(1)) + 1, match[1].lower().replace(" ", "_"))


def count(files):
    """Returns the number of units by group and kind, and the hits."""
    totals, hits = collections.Counter(), []
    for path, text in files:
        kind = kind_of(path, text)
        group = GROUPS.get(kind, OTHER)
        for unit in units(kind, text):
            totals[group, unit.kind] += 1
            hits += [Hit(group, name, path, unit.line, unit.text) for name, pattern in PATTERNS.items()
                     if pattern.unit == unit.kind and pattern.regex.search(unit.text)]
    return totals, hits


def report(totals, hits):
    """Returns the lines of the table, and the patterns over their limit."""
    counted = collections.Counter((hit.group, hit.pattern) for hit in hits)
    table, over = [f"{'group':16} {'pattern':7} {'hits':>5} {'of':>6} {'unit':10} {'share':>7} {'limit':>6}"], []
    for group in (*GROUPS.values(), OTHER):
        for name, pattern in PATTERNS.items():
            total, found = totals[group, pattern.unit], counted[group, name]
            share = 100 * found / max(total, 1)
            is_over = share > pattern.limit
            over += [name] if is_over and name not in over else []
            table.append(f"{group:16} {name:7} {found:5} {total:6} {pattern.unit:10} {share:6.2f}% {pattern.limit:5}%"
                         + ("  over" if is_over else ""))
    return table, over


def main(arguments):
    totals, hits = count(tracked())
    if not totals:
        sys.exit("git lists no file of a counted kind")
    table, over = report(totals, hits)
    if "--list" in arguments:
        print("\n".join(f"{hit.path}:{hit.line}: {hit.pattern}: {hit.text}" for hit in hits))
    print("\n".join(table))
    print("\n".join(f"{name}: {PATTERNS[name].mistake}" for name in sorted(over)))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
