"""kill -9 of one node while ten clients read and write: keys that nobody changes are read on,
writes go on at the nodes that are left; then both copies of every key are compared."""
import os
import time

import scenario
from scenario import Canary, Load, compare_copies, wait_for


def all_partitions(c, tag):
    """Words for mput that reach every partition, or nearly: 3000 keys over 1024 partitions."""
    return [w for i in range(3000) for w in (f"{tag}{i}", "x")]


def writes_everywhere(run, c, tag):
    words = all_partitions(c, tag)
    for i in range(0, len(words), 1000):
        # One that is in doubt is asked again: a slow machine may lose a second node for a moment.
        wait_for(lambda: c.duet("mput", *words[i:i + 1000], "--timeout", "20000").returncode == 0,
                 "writes to every partition")


def kill_one(run, c, load, index):
    node = c.nodes[index]
    load.wait_more(1000)
    reads = load.reads
    node.kill()
    killed = time.monotonic()
    load.wait_reads(200)
    run.check(load.reads > reads, f"{node.name} killed: reads go on")
    missing = wait_for(lambda: (s := c.status()) and
                       [n["name"] for n in s["nodes"] if not n["up"]] == [node.name],
                       "status names the node")
    run.check(missing, f"status says that {node.name} is down")
    writes_everywhere(run, c, f"down{index}-")
    run.check(True, "meanwhile every partition takes writes")
    node.start()
    started = time.monotonic()
    c.wait_serving()
    run.say(f"{node.name} was down for {started - killed:.2f} s, "
            f"all writes came back {time.monotonic() - started:.2f} s after its start")
    writes_everywhere(run, c, f"after{index}-")
    run.check(True, "every partition takes writes again")


def main(run):
    with run.cluster() as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", "20000", "--rate", "3000", "--until-stop",
                     "--timeout", "10000", "--final", final) as load:
            for index in range(3):
                kill_one(run, c, load, index)
            figures = load.finish(tell_slow=True)
        run.check(figures["still_not_done"] == 0 and
                  figures["still_ms_max"] < canary.allowed_ms(1000),
                  f"no read of a key that nobody changes took a second ({canary})")
        compare_copies(run, c, final)


scenario.run(main, __doc__)
