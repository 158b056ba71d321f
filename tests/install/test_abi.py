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
ROOT = os.path.dirname(os.path.dirname(HERE))
KEPT = os.path.join(HERE, "libduet.abi")


def describe(build, path):
    """Only what duet.h shows; nothing of this machine."""
    subprocess.run(["abidw", "--no-show-locs", "--no-corpus-path", "--no-comp-dir-path",
                    "--header-file", os.path.join(ROOT, "client", "duet.h"),
                    "--drop-private-types", "--exported-interfaces-only", "--out-file", path,
                    os.path.join(build, "lib", "libduet.so")], check=True, timeout=300)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(re.sub(r" path='[^']*/(client/[^']*)'", r" path='\1'", text))


def main():
    build = sys.argv[1]
    if "--renew" in sys.argv[2:]:
        describe(build, KEPT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        now = os.path.join(folder, "now.abi")
        describe(build, now)
        done = subprocess.run(["abidiff", KEPT, now], stdout=subprocess.PIPE,
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
