"""kill -9 of random nodes and routers, one after the other, under puts, increments and conditional
puts of eight clients through two routers: no acknowledged write lost, no increment doubled, every
key's history linearizable, at most 5 % of the writes in doubt. --long: a hundred kills and 200,000
operations."""
import os
import random

import scenario
from cluster import SMALL_NODE_FLAGS
from scenario import Load, compare_copies


def main(run):
    kills, operations = (100, 200000) if run.long else (15, 30000)
    rate = 4000
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    chosen = random.Random(seed)
    run.say(f"{kills} kills, SEED={seed}")
    with run.cluster(node_flags=SMALL_NODE_FLAGS) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Load(run, c, "--operations", str(operations), "--rate", str(rate), "--until-stop",
                  "--key-operations", "15", "--final", final) as load:
            killed = {}
            for number in range(kills):
                # Kills are spread over the operations, and hit at any moment of a burst.
                load.wait_more(chosen.randrange(300, 2 * operations // kills - 300))
                p = chosen.choice(c.processes)
                p.kill()
                killed[p.name] = killed.get(p.name, 0) + 1
                load.wait_more(chosen.randrange(0, 400))
                p.start()
                # Only one is missing at a time: the promise is about any single failure.
                c.wait_serving()
                if run.long and number % 10 == 9:
                    run.say(f"{number + 1} kills, {load.operations} operations")
            run.check(sum(killed.values()) == kills,
                      "killed " + ", ".join(f"{k} x {v}" for k, v in sorted(killed.items())))
            load.finish()
        compare_copies(run, c, final)
        c.wait_serving()


scenario.run(main, __doc__)
