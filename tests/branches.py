#!/usr/bin/env python3
"""branches.py BUILD: which branches of the protocol cores were reached, from what gcc counted in BUILD.

Called by tests/coverage, which says what is reported and what is left out of it.
"""
import argparse
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The libraries that hold the cores, by folder.
CORES = [("storage", "duet_core"), ("router", "duet_router"), ("client", "duet_session")]


def sources(folder, library):
    """The files of a library, as its CMakeLists.txt names them."""
    text = (ROOT / folder / "CMakeLists.txt").read_text()
    block = re.search(r"add_library\(%s STATIC\s+([^)]*)\)" % library, text).group(1)
    return [f"{folder}/{name}" for name in block.split()]


def behind(text, start, opens, closes):
    """The place behind what closes the bracket that first opens at start or later."""
    depth = 0
    for at in range(text.index(opens, start), len(text)):
        depth += (text[at] == opens) - (text[at] == closes)
        if depth == 0:
            return at + 1
    return len(text)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def ensured_lines(text):
    """The lines of ENSURE(): its other side is our own mistake, and ends the process."""
    lines = set()
    for match in re.finditer(r"\bENSURE(_UNREACHABLE)?\(", text):
        end = behind(text, match.start(), "(", ")")
        lines.update(range(line_of(text, match.start()), line_of(text, end) + 1))
    return lines


def hash_lines(text):
    """The lines of uthash's macros: what branches inside them is not ours."""
    return {line_of(text, match.start()) for match in re.finditer(r"\bHASH_[A-Z_]+\(", text)}


def closed_switches(text):
    """The lines of each switch without a default: gcc makes one, which no value of the enum takes."""
    lines = set()
    for match in re.finditer(r"\bswitch \(", text):
        body_at = behind(text, match.start(), "(", ")")
        body = text[body_at:behind(text, body_at, "{", "}")]
        if not re.search(r"\bdefault:", body):
            lines.add(line_of(text, match.start()))
    return lines


def count(build):
    """{file: {line: [times each branch was taken]}}, summed over all compilations of the file."""
    wanted = {name for core in CORES for name in sources(*core)}
    taken = {name: {} for name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        for notes in sorted(build.rglob("*.gcda")):
            source = notes.name.removesuffix(".gcda")
            if not any(name.endswith("/" + source) for name in wanted):
                continue
            subprocess.run(["gcov", "--json-format", "--branch-probabilities", notes.resolve()],
                           cwd=folder, check=True, stdout=subprocess.DEVNULL)
            for report in pathlib.Path(folder).glob("*.json.gz"):
                add(taken, json.loads(gzip.decompress(report.read_bytes())))
                report.unlink()
    return taken


def add(taken, report):
    for entry in report["files"]:
        path = pathlib.Path(report["current_working_directory"], entry["file"]).resolve()
        name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
        if name not in taken:
            continue
        for line in entry["lines"]:
            counts = [branch["count"] for branch in line["branches"]]
            old = taken[name].setdefault(line["line_number"], [0] * len(counts))
            if len(old) != len(counts):
                sys.exit(f"{name}:{line['line_number']}: two compilations differ")
            taken[name][line["line_number"]] = [a + b for a, b in zip(old, counts)]


def judge(name, lines):
    """(branches, reached, [text of each line with a branch that was not taken])"""
    text = (ROOT / name).read_text()
    words, switches = text.split("\n"), closed_switches(text)
    passed_over = ensured_lines(text) | hash_lines(text)
    total, reached, missing = 0, 0, []
    for number, counts in sorted(lines.items()):
        if number in passed_over:
            continue
        if number in switches and counts and counts[-1] == 0:
            counts = counts[:-1]
        total += len(counts)
        reached += sum(1 for times in counts if times > 0)
        if 0 in counts:
            missing.append(f"{name}:{number}: {words[number - 1].strip()}   {counts}")
    return total, reached, missing


def row(name, total, reached):
    print(f"{name:28} {total:8} {reached:8} {100 * reached / total if total else 100:8.1f} %")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("build", type=pathlib.Path)
    arguments.add_argument("--missing", action="store_true", help="and each branch never taken")
    options = arguments.parse_args()
    taken = count(options.build)
    print(f"{'file':28} {'branches':>8} {'reached':>8} {'':>10}")
    all_total, all_reached, all_missing = 0, 0, []
    for folder, library in CORES:
        sums = [0, 0]
        for name in sources(folder, library):
            total, reached, missing = judge(name, taken[name])
            row(name, total, reached)
            sums = [sums[0] + total, sums[1] + reached]
            all_missing += missing
        row(f"  {folder}/ ({library})", *sums)
        all_total, all_reached = all_total + sums[0], all_reached + sums[1]
    row("all", all_total, all_reached)
    if options.missing:
        print("\nnever taken (times that each branch of the line was):", *all_missing, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
