"""An hour under everything that can be asked, with a kill -9 every 20 seconds: nothing lost, nothing
doubled, every key's history linearizable, the copies equal, and the anonymous memory of the processes
that live on level. Only with --long; MINUTES=3 tries it out."""
import os
import random
import time

import scenario
from cluster import SMALL_NODE_FLAGS
from scenario import Load, compare_copies, wait_for

MINUTES = 60
KILL_S = 20
GROWTH_MAX = 1.10


def sample(c):
    return {p.name: p.anonymous_kib() for p in c.processes}


class Memory:
    """The anonymous memory of each process, as old as it can get between two kills: a process that
    was just started is smaller than one that has worked."""

    def __init__(self):
        self.samples = {}  # name: [kib]

    def note(self, c, besides):
        for name, kib in sample(c).items():
            if name != besides:
                self.samples.setdefault(name, []).append(kib)

    def check(self, run):
        """The last third of the run against the one in the middle; the first fills the caches."""
        for name, all_kib in sorted(self.samples.items()):
            third = len(all_kib) // 3
            if third == 0:
                run.say(f"{name}: too few samples of its memory")
                continue
            middle, last = max(all_kib[third:2 * third]), max(all_kib[2 * third:])
            run.check(last <= GROWTH_MAX * middle,
                      f"{name}: anonymous memory {middle} -> {last} KiB "
                      f"({last / middle - 1:+.1%})")


def one_round(run, c, load, chosen, memory, until):
    """Kill, start, serve; then the load has the cluster whole for the rest of the 20 seconds."""
    began = time.monotonic()
    p = chosen.choice(c.processes)
    p.kill()
    load.wait_more(chosen.randrange(50, 400))
    p.start()
    c.wait_serving()
    wait_for(lambda: load.alive() and time.monotonic() >= min(began + KILL_S, until),
             "the next kill", timeout=KILL_S + 60, pause=0.2)
    memory.note(c, p.name)
    return p.name


def main(run):
    if not run.long:
        run.skip("an hour is only for --long")
        run.check(True, "nothing was asked for")
        return
    minutes = float(os.environ.get("MINUTES", MINUTES))
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    chosen, memory, killed = random.Random(seed), Memory(), {}
    run.say(f"{minutes:g} minutes, SEED={seed}")
    with run.cluster(node_flags=SMALL_NODE_FLAGS) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        until = time.monotonic() + 60 * minutes
        # Every operation is kept until it is judged: some 800 a second are about a gigabyte an hour.
        with Load(run, c, "--operations", "1000", "--rate", "600", "--readers", "1", "--pauses",
                  "10", "--until-stop", "--final", final) as load:
            while time.monotonic() < until:
                name = one_round(run, c, load, chosen, memory, until)
                killed[name] = killed.get(name, 0) + 1
                if sum(killed.values()) % 15 == 0:
                    run.say(f"{sum(killed.values())} kills, {load.operations} operations")
            load.finish(timeout=1800)
        kills = sum(killed.values())
        run.check(kills >= 60 * minutes / KILL_S / 2,
                  f"{kills} kills: " + ", ".join(f"{k} x {v}" for k, v in sorted(killed.items())))
        compare_copies(run, c, final)
        memory.check(run)
        c.wait_serving()


scenario.run(main, __doc__)
