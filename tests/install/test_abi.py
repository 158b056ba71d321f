#!/usr/bin/env python3
"""The binary interface of libduet against the description that is checked in, libduet.abi: programs
that were linked before must run on.

    test_abi.py BUILD            the gate
    test_abi.py BUILD --renew    write the description anew, after a change that is meant: what is only
                                 added is compatible, everything else wants another SOVERSION
"""
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
KEPT = os.path.join(HERE, "libduet.abi")
OPAQUE = os.path.join(HERE, "opaque.ini")


def describe(build, path):
    """All that can be reached from exported functions; nothing of this machine. abidw could leave out
    what duet.h does not show, but goes by paths in the debug information, which differ."""
    subprocess.run(["abidw", "--no-show-locs", "--no-corpus-path", "--no-comp-dir-path",
                    "--exported-interfaces-only", "--out-file", path,
                    os.path.join(build, "lib", "libduet.so")], check=True, timeout=300)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r" path='(?:[^']*/)?(client/[^']*)'", r" path='\1'", text))


def main():
    build = sys.argv[1]
    if "--renew" in sys.argv[2:]:
        describe(build, KEPT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        now = os.path.join(folder, "now.abi")
        describe(build, now)
        done = subprocess.run(["abidiff", "--suppressions", OPAQUE, KEPT, now], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if done.returncode == 0:
        print("the interface is the one that was described")
        return 0
    print(done.stdout)
    print("the interface of libduet has changed. If that is meant: a change of what was there needs "
          "another SOVERSION (from 1.0 on);\nthen, as for additions:\n"
          "tests/install/test_abi.py BUILD --renew")
    return 1


sys.exit(main())
