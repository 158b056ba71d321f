#!/usr/bin/env python3
"""Names the few files of a corpus that reach most, from what libFuzzer notes when it merges.

    fewest.py CONTROL_FILE COUNT_MAX KEPT_FOLDER

CONTROL_FILE is that of -merge_control_file. Files in KEPT_FOLDER are taken as given; of the others
the one that adds most places comes first, then the one that adds most to that, until nothing is added
or COUNT_MAX names, the given ones counted, are out.
"""
import os
import sys


def reached(control):
    """Each file's path and the places that it reaches."""
    with open(control, encoding="utf-8") as file:
        lines = file.read().splitlines()
    count = int(lines[0])
    paths, places = lines[2:2 + count], {}
    for line in lines[2 + count:]:
        words = line.split()
        if words[0] in ("FT", "COV"):
            places.setdefault(int(words[1]), set()).update((words[0], w) for w in words[2:])
    return {path: places.get(number, set()) for number, path in enumerate(paths)}


def main():
    control, count_max, kept = sys.argv[1], int(sys.argv[2]), os.path.abspath(sys.argv[3])
    files = reached(control)
    given = [p for p in files if os.path.dirname(os.path.abspath(p)) == kept]
    covered = set().union(*(files.pop(p) for p in given))
    for _ in range(len(given), count_max):
        best = max(files, key=lambda p: (len(files[p] - covered), p), default=None)
        if best is None or not files[best] - covered:
            break
        print(best)
        covered |= files.pop(best)


if __name__ == "__main__":
    main()
