"""Every process killed at once, in the middle of reads and writes, and started again: every
acknowledged write is there, on both copies."""
import os

import scenario
from cluster import SMALL_NODE_FLAGS
from scenario import Load, compare_copies

ROUNDS, ROUNDS_LONG = 3, 20


def main(run):
    with run.cluster(node_flags=SMALL_NODE_FLAGS) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Load(run, c, "--operations", "10000", "--rate", "3000", "--until-stop",
                  "--timeout", "10000", "--final", final) as load:
            for number in range(ROUNDS_LONG if run.long else ROUNDS):
                load.wait_writes(500)
                for p in c.processes:
                    p.popen.kill()
                for p in c.processes:
                    p.popen.wait()
                for p in c.processes:
                    p.start()
                c.wait_serving()
                load.wait_writes(500)
                run.check(True, f"round {number + 1}: all killed, all started, writes go on")
            load.finish()
        compare_copies(run, c, final)


scenario.run(main, __doc__)
