"""Faults that overlap: any of five nodes and two routers killed or paused, up to three at a time, at
random moments, while ten clients go on. Nobody promises to be available then; what must hold is that
nothing is lost, doubled or seen in the wrong order, and that all is well afterwards."""
import os
import random
import time

import scenario
from cluster import SMALL_NODE_FLAGS
from scenario import Load, compare_copies

SECONDS, SECONDS_LONG = 12, 180
TOGETHER_MAX = 3


def strike(chosen, p):
    """Returns what ends it."""
    if chosen.random() < 0.6:
        p.kill()
        return p.start
    p.pause()
    return p.resume


def storm(run, c, load, chosen):
    """{process: (when it ends, what ends it)} of the faults under way."""
    until = time.monotonic() + (SECONDS_LONG if run.long else SECONDS)
    faults, count = {}, 0
    while time.monotonic() < until or faults:
        load.alive()
        for p, (end, heal) in list(faults.items()):
            if time.monotonic() >= end:
                heal()
                del faults[p]
        quiet = [p for p in c.processes if p not in faults]
        if time.monotonic() < until and len(faults) < TOGETHER_MAX and chosen.random() < 0.05:
            p = chosen.choice(quiet)
            faults[p] = (time.monotonic() + chosen.uniform(0.02, 2), strike(chosen, p))
            count += 1
        time.sleep(0.01)
    return count


def main(run):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    run.say(f"SEED={seed}")
    with run.cluster(nodes=5, partitions=256, node_flags=SMALL_NODE_FLAGS) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Load(run, c, "--operations", "10000", "--rate", "3000", "--until-stop", "--timeout",
                  "20000", "--key-operations", "15", "--final", final) as load:
            load.wait_writes(500)
            count = storm(run, c, load, random.Random(seed))
            c.wait_serving()
            load.wait_writes(500)
            run.check(count > 0, f"{count} faults, and all is well again")
            load.finish()
        compare_copies(run, c, final)


scenario.run(main, __doc__)
