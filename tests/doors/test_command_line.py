#!/usr/bin/env python3
"""What `duet` does by itself, without any cluster: contexts, where routers come from, outputs.

    test_command_line.py BIN-DIRECTORY
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

DUET = os.path.join(os.path.abspath(sys.argv.pop(1)), "duet")
PORTS = [9, 19, 29, 39]  # nobody answers there


def address(i):
    return f"tcp://127.0.0.1:{PORTS[i]}"


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="duet-test-")
        self.addCleanup(shutil.rmtree, self.dir)
        self.file = os.path.join(self.dir, "duet", "contexts")

    def run_duet(self, *words, **environment):
        own = {k: v for k, v in os.environ.items() if not k.startswith(("DUET_", "XDG_"))}
        return subprocess.run([DUET, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=30,
                              env={**own, "XDG_CONFIG_HOME": self.dir, **environment})

    def good(self, *words, **environment):
        done = self.run_duet(*words, **environment)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return done.stdout

    def bad(self, part, *words):
        done = self.run_duet(*words)
        self.assertEqual(done.returncode, 2, words)
        self.assertIn(part, done.stderr)

    def asked(self, *words, **environment):
        """Which router a command turned to: the words say where nobody answers."""
        done = self.run_duet("get", "k", "--timeout", "50", *words, **environment)
        self.assertEqual(done.returncode, 3)
        return done.stderr.split("answers at ")[1].split(";")[0]

    def test_routers_come_from_flags_environment_context_and_default(self):
        self.good("context", "add", "a", address(0))
        self.good("context", "add", "b", address(1))
        self.assertIn("127.0.0.1:7400", self.asked("--context", "default"))
        self.good("context", "use", "a")
        self.assertEqual(self.asked(), address(0))
        self.assertEqual(self.asked(DUET_ROUTERS=address(2)), address(2))
        self.assertEqual(self.asked("--context", "b", DUET_ROUTERS=address(2)), address(1))
        self.assertEqual(self.asked("--context", "b", "--routers", address(3)), address(3))
        self.good("context", "use", "default")
        self.assertNotIn("current", open(self.file, encoding="utf-8").read())

    def test_contexts_are_listed_changed_and_removed(self):
        self.assertEqual(self.good("context"), "")
        self.good("context", "add", "a", address(0))
        self.good("context", "add", "b", address(1))
        self.good("context", "add", "a", address(2))
        self.good("context", "use", "b")
        self.assertEqual(json.loads(self.good("context", "-o", "json")), [
            {"name": "a", "routers": address(2), "current": False},
            {"name": "b", "routers": address(1), "current": True}])
        self.assertEqual(self.good("context", "list", "-o", "raw"), "a\nb\n")
        self.assertIn("* b ", self.good("context"))
        self.good("context", "remove", "b")
        self.assertEqual(self.good("context").split(), ["a", address(2)])

    def test_reads_are_as_flags_environment_or_context_say(self):
        self.good("context", "add", "near", address(0), "--read", "any")
        self.assertEqual(json.loads(self.good("context", "-o", "json")), [
            {"name": "near", "routers": address(0), "current": False, "read": "any"}])
        self.assertEqual(self.good("context").split(), ["near", address(0), "read=any"])
        self.assertEqual(self.asked("--context", "near"), address(0))
        self.assertEqual(self.asked("--context", "near", "--read", "confirm"), address(0))
        done = self.run_duet("get", "k", DUET_READ="sometimes")
        self.assertEqual(done.returncode, 2)
        self.assertIn("DUET_READ: 'sometimes' is none of linearizable, confirm, any", done.stderr)
        self.bad("--read: 'some' is none of", "get", "k", "--read", "some")
        self.bad("--read does not belong to 'put'", "put", "k", "v", "--read", "any")
        with open(self.file, "a", encoding="utf-8") as to:
            to.write(f"far = {address(1)} read=often\n")
        self.bad("line 2 is not NAME = ROUTERS [read=HOW]", "get", "k")

    def test_mistakes_with_contexts(self):
        self.bad("there is no context 'x'", "context", "use", "x")
        self.bad("there is no context 'x'", "context", "remove", "x")
        self.bad("there is no context 'x'", "get", "k", "--context", "x")
        self.bad("there is no context 'current'", "get", "k", "--context", "current")
        self.bad("is none of", "context", "frob")
        self.bad("write: duet context add NAME ROUTERS", "context", "add", "x")
        self.bad("write: duet context use NAME", "context", "use")
        self.bad("cannot be a context's name", "context", "add", "a b", address(0))
        self.bad("cannot be a context's name", "context", "add", "default", address(0))
        self.bad("has no port", "context", "add", "x", "localhost")

    def test_the_file_is_edited_with_care(self):
        os.mkdir(os.path.dirname(self.file))
        with open(self.file, "w", encoding="utf-8") as to:
            to.write(f"# mine\n\n  a={address(0)}  \n")
        self.good("context", "use", "a")
        self.assertEqual(self.asked(), address(0))
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual(file.read(), f"# mine\n\n  a={address(0)}  \ncurrent = a\n")
        with open(self.file, "a", encoding="utf-8") as to:
            to.write("nonsense\n")
        self.bad("contexts: line 5 is not NAME = ROUTERS", "get", "k")
        self.bad("line 5", "context", "use", "a")
        with open(self.file, "w", encoding="utf-8") as to:
            to.write("current = gone\n")
        self.bad("there is no context 'gone'", "get", "k")
        self.good("context", "use", "default")

    def test_a_command_prints_what_makes_sense_for_it(self):
        self.bad("'status' cannot print raw; it prints: table, json, jsonl", "status", "-o", "raw")
        self.bad("'help' cannot print json; it prints: table", "help", "-o", "json")

    def test_a_reader_that_leaves_is_no_accident(self):
        done = subprocess.run(["bash", "-c", f"{DUET} manual | head -n1; echo ${{PIPESTATUS[0]}}"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.stderr, "")
        self.assertTrue(done.stdout.startswith(".Dd ") and done.stdout.endswith("\n0\n"))
        full = subprocess.run(["bash", "-c", f"{DUET} manual > /dev/full"],
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(full.returncode, 5)
        self.assertIn("cannot write: No space left", full.stderr)


if __name__ == "__main__":
    unittest.main()
