#!/usr/bin/env python3
"""One table of commands: help, manual page, bash completion and interactive completion say the same.

    test_command_table.py BIN-DIRECTORY
"""
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.path.abspath(sys.argv.pop(1))
DUET = os.path.join(BIN, "duet")
PAGES = os.path.join(os.path.dirname(BIN), "client")


def duet(*words):
    done = subprocess.run([DUET, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL, timeout=30)
    return done.stdout


def help_rows():
    """{name: words} of `duet help`."""
    text = duet("help").split("\nFlags\n")[0]
    rows = re.findall(r"^  (\w+)((?: \S+)*?)(?:  +|\n   +)\S", text, re.M)
    return {name: words.strip() for name, words in rows if name != "duet"}


def help_flags(*words):
    """{--flag: value} of `duet help ...`."""
    lines = re.findall(r"^  (?:-\w, |    )(--[a-z-]+)(?:=(\S+))?", duet("help", *words), re.M)
    return dict(lines)


def bash(*words):
    """What bash would offer for the last of words."""
    split = [w for word in words for w in re.split("(=)", word) if w or not word]
    script = (f". {PAGES}/duet.bash; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _duet; "
              "printf '%s\\n' \"${COMPREPLY[@]}\"")
    done = subprocess.run(["bash", "-c", script, "bash", "duet", *split], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.stderr == "", done.stderr
    return set(done.stdout.split())


def unroff(text):
    return text.replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


def manual_items():
    """{name: (words, text)} of the page's commands, and the text of its options."""
    page = duet("manual")
    commands, options = page.split(".Sh COMMANDS\n")[1].split(".Sh OPTIONS\n")
    items = re.split(r"^\.It Ic ", commands, flags=re.M)[1:]
    found = {}
    for item in items:
        head, body = item.split("\n", 1)
        name, _, words = head.partition(" Ar ")
        found[name] = (unroff(words.strip('"')), unroff(body))
    return found, unroff(options.split("\n.Sh ")[0])


def interactive(keys):
    """What the interactive mode writes to its terminal when these keys come."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="80", DUET_ROUTERS="tcp://127.0.0.1:9")
        os.environ["XDG_STATE_HOME"] = tempfile.gettempdir() + "/no such folder"
        os.execv(DUET, [DUET])
    output, sent, until = b"", False, time.monotonic() + 30
    while time.monotonic() < until:
        if not sent and b"duet> " in output:
            os.write(fd, keys + b"\x03quit\r")
            sent = True
        if select.select([fd], [], [], 0.1)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            output += data
    os.close(fd)
    os.waitpid(pid, 0)
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r", b"", output).decode()
    return text.split("duet> ", 1)[1]


class CommandTable(unittest.TestCase):
    def test_help_of_every_command_is_there(self):
        rows = help_rows()
        self.assertGreaterEqual(len(rows), 15)
        for name, words in rows.items():
            first = duet("help", name).split("\n")[0]
            self.assertEqual(first.strip(), f"duet {name} {words}".strip())
            self.assertEqual(duet(name, "--help"), duet("help", name))

    def test_the_manual_page_has_the_commands_and_flags_of_help(self):
        items, options = manual_items()
        self.assertEqual({n: w for n, (w, _) in items.items()}, help_rows())
        everywhere = help_flags()
        for name, (_, body) in items.items():
            here = dict(re.findall(r'^\.It.*?Fl "(-[a-z-]+)"(?: Ns = Ns Ar "([^"]*)")?', body, re.M))
            own = {f[1:]: v for f, v in help_flags(name).items() if f not in everywhere}
            self.assertEqual(here, own, name)
        named = dict(re.findall(r'Fl "(-[a-z-]+)"(?: Ns = Ns Ar "([^"]*)")?', options))
        self.assertEqual(named, {f[1:]: v for f, v in everywhere.items()})

    def test_the_manual_page_is_clean(self):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", f"{PAGES}/duet.1"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_the_built_pages_are_those_of_the_program(self):
        with open(f"{PAGES}/duet.1", encoding="utf-8") as page:
            self.assertEqual(page.read(), duet("manual"))
        with open(f"{PAGES}/duet.bash", encoding="utf-8") as script:
            self.assertEqual(script.read(), duet("completion", "bash"))

    def test_bash_completes_commands_flags_and_values(self):
        self.assertEqual(bash(""), set(help_rows()))
        self.assertEqual(bash("pu"), {"put"})
        self.assertEqual(bash("help", "stat"), {"status"})
        for name in help_rows():
            self.assertEqual(bash(name, "--"), set(help_flags(name)), name)
            for flag, value in help_flags(name).items():
                if "|" in value:
                    self.assertEqual(bash(name, flag, ""), set(value.split("|")), flag)
        self.assertEqual(bash("get", "--output=js"), {"json", "jsonl"})
        self.assertEqual(bash("-o", "json", "stat"), {"status"})
        self.assertEqual(bash("--routers=tcp://127.0.0.1:1", "stat"), {"status"})
        self.assertEqual(bash("get", "k", ""), set())
        self.assertEqual(bash("import", "/etc/host"),
                         {f"/etc/{n}" for n in os.listdir("/etc") if n.startswith("host")})

    def test_the_interactive_mode_completes_the_same(self):
        listed = interactive(b"\t").split("duet> ")[0].split()
        self.assertEqual(set(listed), set(help_rows()) | {"quit"})
        self.assertIn("put KEY VALUE  store a value", interactive(b"put \t"))
        self.assertIn("get k --output json", interactive(b"get k --out\tjson\t"))
        flags = interactive(b"put --\t").split("duet> ")[0].split()
        self.assertEqual(set(flags[2:]), set(help_flags("put")))


if __name__ == "__main__":
    unittest.main()
