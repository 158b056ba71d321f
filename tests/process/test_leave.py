"""SIGTERM to one node after the other while ten clients read and write: it hands over what it leads,
is left out by those who lead, and ends. Nobody is refused, nothing is in doubt, and nothing waits as
long as for a node that died."""
import os
import time

import scenario
from scenario import Canary, Load, compare_copies


def leave(run, c, load, index):
    node = c.nodes[index]
    load.wait_more(1000)
    began = time.monotonic()
    code = node.stop()
    run.check(code == 0 and "event=leaving" in node.output(),
              f"{node.name} left within {time.monotonic() - began:.2f} s, exit code 0")
    load.wait_writes(300)
    load.wait_reads(300)
    node.start()
    c.wait_serving()


def main(run):
    with run.cluster() as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", "10000", "--rate", "1000", "--until-stop",
                     "--timeout", "10000", "--final", final) as load:
            for index in range(3 * (5 if run.long else 1)):
                leave(run, c, load, index % 3)
            figures = load.finish(tell_slow=True)
        run.check(figures["in_doubt"] == 0 and figures["writes_not_done"] == 0 and
                  figures["still_not_done"] == 0, "no request failed, none was in doubt")
        run.check(figures["write_gap_ms"] < canary.allowed_ms(500),
                  f"writes did not stop ({figures['write_gap_ms']} ms at most; {canary})")
        compare_copies(run, c, final)
        began = time.monotonic()
        for node in c.nodes:
            node.popen.terminate()
        codes = [node.popen.wait(30) for node in c.nodes]
        run.check(codes == [0, 0, 0], f"all leave at once: {time.monotonic() - began:.2f} s")
        for node in c.nodes:
            node.start()
        c.wait_serving()
        compare_copies(run, c, final)


scenario.run(main, __doc__)
