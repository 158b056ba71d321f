#!/usr/bin/env python3
"""Checks the rules of the house: include arrows, pure files, function names and lengths.

    tests/tidy/tidy.py [ROOT]

Prints one line for each finding, "file:line: what", and leaves with 1 when there is one. What is
allowed stands in rules.txt beside this file. It reads C as text, not as a compiler does: that is
enough for code in the style of this house.
"""
import os
import re
import sys

FUNCTION_LINES_MAX = 70
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
TEXT_ENDINGS = (".c", ".h", ".py", ".sh", ".md", ".txt", ".proto", ".conf")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)
# Words before "(" that are not the name of the function that is being defined.
NOT_A_NAME = {"__attribute__", "_Alignas", "__extension__", "_Static_assert"}


class Rules:
    def __init__(self, text):
        self.arrows, self.only, self.prefixes = {}, {}, {}
        self.pure, self.pure_libraries, self.impure, self.calls = set(), set(), set(), set()
        self.top = set()
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if words:
                self.add(words[0], words[1:])

    def add(self, kind, words):
        if kind == "arrow":
            self.arrows[words[0]] = set(words[2:])
        elif kind == "only":
            self.only[words[0]] = set(words[1:])
        elif kind == "prefix":
            self.prefixes[words[0]] = words[1:]
        else:
            {"pure": self.pure, "pure-library": self.pure_libraries, "impure": self.impure,
             "call": self.calls, "top": self.top}[kind].update(words)


class Source:
    """One C file: its text, the text without comments and literals, its includes."""

    def __init__(self, root, path):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            self.text = file.read()
        self.code = blank(self.text)
        # Includes are read where comments are blanked but the names in quotes still stand.
        commentless = blank(self.text, literals=False)
        self.includes = [(m.group(1), m.group(2), line_of(self.text, m.start()))
                         for m in INCLUDE.finditer(commentless)]


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def blank(text, literals=True):
    """Replace comments (and the inside of literals) by spaces; line breaks stay."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'", re.S)

    def spaces(match):
        found = match.group()
        if found[0] == "/":
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[0] if literals else found

    return token.sub(spaces, text)


def without_preprocessor(code):
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()),
                  code, flags=re.M)


def function_name(head):
    """The match of the name that a head defines: f in "static int f(void)". None: no function."""
    depth, name = 0, None
    for match in re.finditer(r"[()]|=", head):
        if match.group() == "=":
            if depth == 0:
                return None
        elif match.group() == "(":
            # The last one: before it may stand a macro that needs no semicolon.
            if depth == 0:
                word = re.search(r"(\w+)\s*$", head[:match.start()])
                if word and word.group(1) not in NOT_A_NAME:
                    name = word
            depth += 1
        else:
            depth -= 1
    return name


def functions(source):
    """Each function defined in source: (name, static?, first line, last line)."""
    code = without_preprocessor(source.code)
    depth, start, found = 0, 0, []
    for match in re.finditer(r"[{};]", code):
        if match.group() == "{":
            if depth == 0:
                head, opened = code[start:match.start()], start
            depth += 1
            continue
        if match.group() == "}":
            depth -= 1
            name = function_name(head) if depth == 0 else None
            if name:
                first = opened + name.start()
                found.append((name.group(1), re.search(r"\bstatic\b", head) is not None,
                              line_of(code, first), line_of(code, match.start())))
        if depth == 0:
            start = match.end()
    return found


def library_sources(root, paths, libraries):
    """The C files that CMake builds into these libraries."""
    found = set()
    for path in paths:
        if os.path.basename(path) != "CMakeLists.txt" or path.startswith("tests/"):
            continue
        with open(os.path.join(root, path), encoding="utf-8") as file:
            text = re.sub(r"#[^\n]*", "", file.read())
        for name, body in re.findall(r"add_library\(\s*(\w+)([^)]*)\)", text):
            if name in libraries:
                found.update(os.path.normpath(os.path.join(os.path.dirname(path), word))
                             for word in body.split() if word.endswith(".c"))
    return found


class Tidy:
    def __init__(self, root, rules):
        self.root, self.rules, self.findings = root, rules, []
        self.paths = sorted(self.walk())
        self.sources = {p: Source(root, p) for p in self.paths if p.endswith((".c", ".h"))}

    def walk(self):
        for folder, folders, files in os.walk(self.root):
            relative = os.path.relpath(folder, self.root)
            folders[:] = [f for f in folders if not f.startswith(".") and f != "__pycache__" and
                          not (relative == "." and re.match(r"build(-.*)?$", f))]
            for name in files:
                yield os.path.normpath(os.path.join(relative, name))

    def say(self, path, line, words):
        self.findings.append((path, line, words))

    def area(self, path):
        areas = [a for a in self.rules.arrows if path.startswith(a + "/")]
        return max(areas, key=len) if areas else None

    def check(self):
        self.check_top()
        for path in self.paths:
            self.check_lines(path)
            if path.endswith(".md"):
                self.check_links(path)
        for source in self.sources.values():
            self.check_arrows(source)
            self.check_own_header_first(source)
            self.check_functions(source)
        self.check_pure()
        return sorted(set(self.findings))

    def check_top(self):
        names = {n for n in os.listdir(self.root)
                 if not n.startswith(".") and not re.match(r"build(-.*)?$", n)}
        for name in names - self.rules.top:
            self.say(name, 1, "does not belong at the top")
        for name in self.rules.top - names:
            self.say(name, 1, "is missing at the top")

    def check_lines(self, path):
        if not path.endswith(TEXT_ENDINGS):
            return
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                found = UNFINISHED.search(line)
                if found:
                    self.say(path, number, f"{found.group()}: finish it or open an issue")
                if os.path.abspath(self.root) + "/" in line:
                    self.say(path, number, "names the folder of this machine that the tree lies in")

    def check_links(self, path):
        """What a README points to inside the tree exists."""
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            text = file.read()
        for match in re.finditer(r"\]\(([^)#\s]+)", text):
            target = os.path.join(self.root, os.path.dirname(path), match.group(1))
            if "://" not in match.group(1) and not os.path.exists(target):
                self.say(path, line_of(text, match.start()), f"{match.group(1)} does not exist")

    def check_arrows(self, source):
        area = self.area(source.path)
        for ours, foreign, line in source.includes:
            allowed = self.rules.only.get(foreign)
            if allowed is not None and area != "tests" and source.path not in allowed:
                self.say(source.path, line, f"<{foreign}> is for {' '.join(sorted(allowed))} only")
            if ours is None or area is None:
                continue
            target = self.area(ours)
            if target is None:
                self.say(source.path, line, f'"{ours}" is not written from the root')
            elif target != area and not self.rules.arrows[area] & {target, "*"}:
                self.say(source.path, line, f"{area} may not include {target} (\"{ours}\")")

    def check_own_header_first(self, source):
        header = source.path[:-2] + ".h"
        if source.path.endswith(".c") and header in self.sources and source.includes:
            ours, _, line = source.includes[0]
            if ours != header:
                self.say(source.path, line, f'the first include is not "{header}"')

    def prefixes(self, source):
        """What function names in this file may begin with: the file's name (or its plural, for
        what works on many), and the names of the headers beside it that it includes and that have
        no source of their own."""
        name = os.path.basename(source.path)[:-2]
        found = [name, name + "s"]
        for ours, _, _ in source.includes:
            if ours and os.path.dirname(ours) == os.path.dirname(source.path) and \
                    ours[:-2] + ".c" not in self.sources:
                found.append(os.path.basename(ours)[:-2])
        for place, words in self.rules.prefixes.items():
            if source.path == place or (place.endswith("/") and source.path.startswith(place)):
                found += words
        return found

    def check_functions(self, source):
        tests = self.area(source.path) == "tests"
        prefixes = self.prefixes(source)
        for name, static, first, last in functions(source):
            if last - first + 1 > FUNCTION_LINES_MAX:
                self.say(source.path, first,
                         f"{name}() has {last - first + 1} lines, more than {FUNCTION_LINES_MAX}")
            if tests or name == "main" or (static and source.path.endswith(".c")):
                continue
            if not any(name == p or name.startswith(p + "_") for p in prefixes):
                self.say(source.path, first, f"{name}() does not begin with {prefixes[0]}_")

    def check_pure(self):
        libraries = library_sources(self.root, self.paths, self.rules.pure_libraries)
        calls = re.compile(r"(?<![\w.>])(" + "|".join(sorted(self.rules.calls)) + r")\s*\(")
        for path, source in self.sources.items():
            name = os.path.basename(path)[:-2]
            if self.area(path) == "tests" or (name not in self.rules.pure and
                                              path not in libraries):
                continue
            self.check_reach(source, source, [], set())
            for match in calls.finditer(without_preprocessor(source.code)):
                self.say(path, line_of(source.code, match.start()),
                         f"pure, but calls {match.group(1)}()")

    def check_reach(self, pure, source, way, seen):
        """Follow our headers: an impure one is as bad at the end of a way as at its beginning."""
        for ours, foreign, line in source.includes:
            name = ours or foreign
            if name in seen:
                continue
            seen.add(name)
            if name in self.rules.impure:
                through = " through " + " ".join(way) if way else ""
                self.say(pure.path, line if not way else 1, f"pure, but includes {name}{through}")
            elif ours in self.sources:
                self.check_reach(pure, self.sources[ours], way + [ours], seen)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(here))
    with open(os.path.join(here, "rules.txt"), encoding="utf-8") as file:
        tidy = Tidy(root, Rules(file.read()))
    findings = tidy.check()
    for path, line, words in findings:
        print(f"{path}:{line}: {words}")
    count = sum(len(functions(s)) for s in tidy.sources.values())
    print(f"tidy: {len(tidy.sources)} C files, {count} functions, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
