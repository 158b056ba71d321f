#!/usr/bin/python3
"""A cluster of three nodes and two routers for the foreign client: foreign.py, through each router.

    test_foreign.py BIN
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "process"))

from cluster import Cluster


def main():
    passed = failed = 0
    with Cluster(os.path.dirname(os.path.abspath(sys.argv[1]))) as cluster:
        cluster.start()
        for address in cluster.router_addresses:
            done = subprocess.run([sys.executable, os.path.join(HERE, "foreign.py"), address],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  check=False)
            print(done.stdout, end="")
            words = done.stdout.split()
            passed += int(words[-4]) if words[-1:] == ["failed"] else 0
            failed += int(words[-2]) if words[-1:] == ["failed"] else 1
        if failed > 0 or not all(p.alive() for p in cluster.processes):
            failed = max(failed, 1)
            cluster.print_logs()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed > 0 or passed == 0 else 0


sys.exit(main())
