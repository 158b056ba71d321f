#!/usr/bin/env python3
"""Every example of the library, run as its reader would, against three nodes and two routers.

    test_examples.py BIN
"""
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "process"))

from cluster import Cluster, clean_environment

BIN = os.path.abspath(sys.argv[1])
SOURCES = os.path.join(os.path.dirname(os.path.dirname(HERE)), "client", "examples")

# What each prints, as a pattern.
EXPECTED = {
    "put_get": r"the apple is red\nthe apple is gone: no such key\n",
    "increment": r"1000 increments, the counter went up by 1000\n",
    "compare_and_set": r"words: one two three\n",
    "change_in_place": r"the balance is 0\.3\nthe journal is paid 9\.99;paid 0\.10;paid 0\.10;\n",
    "expiry": r"the session has more time\nanna has left\n",
    "pipeline": r"10000 written, 0 failed\n",
    "poll_loop": r"100 operations, one after the other, without a thread\n",
    "libuv_loop": r"20 ticks, 20 answers, 0 failed\n",
    "threads": r"10 threads, the counter went up by 1000\n",
    "in_doubt": r"200 writes, \d+ in doubt at first; \d+ happened, the counter went up by \d+\n",
}


class Examples:
    def __init__(self, cluster):
        self.cluster, self.passed, self.failed = cluster, 0, 0

    def check(self, good, what):
        print(f"{'ok     ' if good else 'FAILED '}{what}", flush=True)
        self.passed += bool(good)
        self.failed += not good

    def run(self, name, trouble=None):
        """Run one; as long as it runs, cause trouble again and again. Its output, how often."""
        environment = {**clean_environment(), "DUET_ROUTERS": self.cluster.all_routers}
        times = 0
        with subprocess.Popen([os.path.join(BIN, "example_" + name)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=environment) as example:
            while trouble is not None and example.poll() is None:
                trouble(times)
                times += 1
            out = example.communicate(timeout=300)[0]
        self.check(example.returncode == 0 and re.fullmatch(EXPECTED[name], out),
                   f"{name}: {out.strip()}")
        return out, times

    def without_a_router(self):
        environment = {**clean_environment(), "DUET_ROUTERS": "tcp://127.0.0.1:1",
                       "DUET_TIMEOUT_MS": "100"}
        done = subprocess.run([os.path.join(BIN, "example_put_get")], capture_output=True,
                              text=True, timeout=60, env=environment, check=False)
        self.check(done.returncode == 1 and "no router answers" in done.stderr,
                   f"without a router: {done.stderr.strip()}")

    def restart_router(self, n):
        time.sleep(0.4)
        router = self.cluster.routers[n % 2]
        router.kill()
        time.sleep(0.2)
        router.start()

    def hold_node(self, n):
        node = self.cluster.nodes[n % 3]
        node.pause()
        time.sleep(0.1)
        node.resume()
        time.sleep(0.1)


def main():
    with Cluster(os.path.dirname(BIN)) as cluster:
        cluster.start()
        examples = Examples(cluster)
        names = sorted(n[:-2] for n in os.listdir(SOURCES) if n.endswith(".c"))
        examples.check(names == sorted(EXPECTED), f"{len(names)} examples, each with its test")
        for name in EXPECTED:
            examples.run(name)
        _, kills = examples.run("increment", examples.restart_router)
        examples.check(kills > 0, f"... while {kills} times a router was killed")
        out, pauses = examples.run("in_doubt", examples.hold_node)
        doubts = int(out.split()[2]) if examples.failed == 0 else 0
        examples.check(doubts > 0, f"... while {pauses} times a node stood still")
        examples.without_a_router()
        if examples.failed > 0:
            cluster.print_logs()
    print(f"{examples.passed} passed, {examples.failed} failed")
    return 1 if examples.failed > 0 or examples.passed == 0 else 0


sys.exit(main())
