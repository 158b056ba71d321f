#!/usr/bin/env python3
"""The manuals: doxygen takes duet.h without a warning, every function says who may call it at once,
and the manual pages are complete and well-formed.

    test_manual.py BUILD
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(sys.argv.pop(1))
CLIENT = os.path.join(ROOT, "client")
PAGES = {"duet.3": "client/install", "duet-router.8": "deploy", "duet-storage.8": "deploy"}
FUNCTION = re.compile(r"/\*((?:(?!\*/).)*)\*/\s*(?:DUET_API|static inline)[^;{(]*?(duet_\w+)\(",
                      re.S)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def page(name):
    return os.path.join(BUILD, PAGES[name], name)


class Manual(unittest.TestCase):
    def test_doxygen_has_nothing_to_complain_about(self):
        settings = read(os.path.join(CLIENT, "manual", "Doxyfile"))
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["doxygen", "-"], cwd=CLIENT, text=True, capture_output=True,
                                  input=f"{settings}\nOUTPUT_DIRECTORY={folder}\n", timeout=300,
                                  check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), done.stderr)
            xml = read(os.path.join(folder, "xml", "duet_8h.xml"))
        for name in self.functions():
            self.assertIn(f"<name>{name}</name>", xml)

    def functions(self):
        text = read(os.path.join(CLIENT, "duet.h"))
        found = {m[2]: m[1] for m in FUNCTION.finditer(text)}
        declared = re.findall(r"^DUET_API [^;(]*?(duet_\w+)\(", text, re.M)
        self.assertGreater(len(declared), 30)
        for name in declared:
            self.assertIn(name, found, f"{name}() has no comment of its own")
        return found

    def test_every_function_says_who_may_call_it_at_once(self):
        for name, comment in self.functions().items():
            words = re.sub(r"\s*\*?\s+", " ", comment)
            self.assertRegex(words, r"Thread-safe\.|[Oo]ne thread at a time", name)

    def test_pages_are_well_formed(self):
        for name in PAGES:
            done = subprocess.run(["mandoc", "-Tlint", "-W", "warning", page(name)], text=True,
                                  capture_output=True, timeout=60, check=False)
            self.assertEqual(done.stdout + done.stderr, "", name)

    def test_duet_3_has_every_function(self):
        text = read(page("duet.3"))
        for name in self.functions():
            if name not in ("duet_bytes", "duet_text"):  # inline, in the header itself
                self.assertIn(f".It Fn {name}\n", text)

    def test_pages_of_the_processes_have_every_option(self):
        for name in ("duet-router", "duet-storage"):
            done = subprocess.run([os.path.join(BUILD, "bin", name), "--help"], text=True,
                                  capture_output=True, timeout=60, check=True)
            options = re.findall(r"^  --([\w-]+)", done.stdout, re.M)
            self.assertGreater(len(options), 15)
            shown = subprocess.run(["mandoc", "-Tascii", page(name + ".8")], text=True,
                                   capture_output=True, timeout=60, check=True).stdout
            shown = re.sub(".\b", "", shown)
            for option in options:
                self.assertRegex(shown, rf"(?m)^ +--{option}\b")


if __name__ == "__main__":
    unittest.main(verbosity=1)
