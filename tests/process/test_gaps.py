"""gaps, the prober of tests/bench/failover: it sees a gap that is there, in full and once, and tells a
write in doubt from one that failed."""
import json
import subprocess
import time

import scenario
from cluster import Failed, _die_with_parent, clean_environment, wait_for

KEYS = 12


class Gaps:
    def __init__(self, run, c, timeout_ms):
        self.popen = subprocess.Popen(
            [run.program("gaps"), c.all_routers, str(KEYS), "5", str(timeout_ms)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=_die_with_parent,
            env=clean_environment())

    def ask(self, command):
        self.popen.stdin.write(command + "\n")
        self.popen.stdin.flush()
        line = self.popen.stdout.readline()
        if not line:
            raise Failed(f"gaps ended with exit code {self.popen.wait()}")
        return json.loads(line)

    def wait_answered(self):
        """Until every key was acknowledged after this."""
        self.ask("look")  # before its first answer it may not even have begun
        began = time.monotonic()

        def answered():
            seen = self.ask("look")
            return all(seen[k]["open_ms"] < 1000 * (time.monotonic() - began)
                       for k in ("writes", "reads"))
        wait_for(answered, "every key is acknowledged")

    def end(self):
        self.popen.stdin.close()
        return self.popen.wait(30)


def pause(c, seconds):
    """Nobody answers for so long."""
    c.routers[0].pause()
    time.sleep(seconds)
    c.routers[0].resume()


def seen_in_full(run, c):
    gaps = Gaps(run, c, 30000)
    gaps.wait_answered()
    gaps.ask("mark")
    pause(c, 1.0)
    gaps.wait_answered()
    looked, marked = gaps.ask("look"), gaps.ask("mark")
    for kind in ("writes", "reads"):
        m = marked[kind]
        run.check(len(m["gaps_ms"]) == KEYS and
                  all(g > 900 - marked["late_ms"] for g in m["gaps_ms"]) and
                  m["worst_ms"] == max(m["gaps_ms"]),
                  f"{kind}: a second without an answer, of every key ({m['worst_ms']} ms)")
        run.check(m["acknowledged"] >= looked[kind]["acknowledged"] >= KEYS and
                  m["failed"] == m["in_doubt"] == 0, f"{kind}: nothing failed, look forgets nothing")
    after = gaps.ask("look")
    run.check(after["writes"]["acknowledged"] < marked["writes"]["acknowledged"] and
              max(after["writes"]["gaps_ms"]) < marked["writes"]["worst_ms"],
              "after a mark it begins anew")
    run.check(gaps.end() == 0, "it ends with stdin")


def ends_told_apart(run, c):
    gaps = Gaps(run, c, 300)
    gaps.wait_answered()
    gaps.ask("mark")
    pause(c, 1.0)
    gaps.wait_answered()
    m = gaps.ask("mark")
    gaps.end()
    run.check(m["writes"]["in_doubt"] > 0 and m["reads"]["in_doubt"] == 0,
              f"deadlines passed: {m['writes']['in_doubt']} writes in doubt")
    run.check(m["reads"]["failed"] >= KEYS, f"{m['reads']['failed']} reads failed")


def main(run):
    with run.cluster(routers=1) as c:
        c.start()
        c.good(stdin="".join(f"put gap:r:{i} 0\n" for i in range(KEYS)).encode())
        seen_in_full(run, c)
        ends_told_apart(run, c)


scenario.run(main, __doc__)
