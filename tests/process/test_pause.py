"""SIGSTOP in the middle of writes: of a router, of nodes for so long that their peers give them up,
of everything shortly. What hangs is not dead: its sockets stay open and its messages arrive late."""
import os
import time

import scenario
from scenario import Load, compare_copies, wait_for


def pause_router(run, c, load):
    load.wait_more(1000)
    c.routers[0].pause()
    began = time.monotonic()
    load.wait_writes(300)
    run.check(True, f"router paused: clients go to the other one "
                    f"(300 writes after {time.monotonic() - began:.2f} s)")
    c.routers[0].resume()
    c.wait_serving()
    load.wait_writes(300)


def pause_node(run, c, load, index):
    node = c.nodes[index]
    load.wait_more(1000)
    node.pause()
    load.wait_reads(300)
    missing = wait_for(lambda: (s := c.status()) and
                       [n["name"] for n in s["nodes"] if not n["up"]] == [node.name],
                       "status names the node")
    run.check(missing, f"{node.name} paused: reads go on, status says that it is down")
    node.resume()
    began = time.monotonic()
    c.wait_serving()
    load.wait_writes(300)
    run.check(True, f"{node.name} goes on: all writes are back "
                    f"({time.monotonic() - began:.2f} s)")


def pause_shortly(run, c, load):
    """Many short pauses, below and above what makes a node suspect."""
    for i in range(20 if run.long else 8):
        p = c.processes[i % len(c.processes)]
        load.wait_more(150)
        p.pause()
        load.wait_more(40 + 40 * (i % 4))
        p.resume()
    c.wait_serving()
    load.wait_writes(300)
    run.check(True, "short pauses of every process, one after the other")


def main(run):
    with run.cluster() as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Load(run, c, "--operations", "10000", "--rate", "3000", "--until-stop", "--timeout",
                  "10000", "--final", final) as load:
            pause_router(run, c, load)
            pause_node(run, c, load, 0)
            pause_node(run, c, load, 1)
            pause_shortly(run, c, load)
            figures = load.finish(tell_slow=True)
        run.check(figures["still_not_done"] == 0, "every read of a key that nobody changes came")
        compare_copies(run, c, final)
        run.check([p.starts for p in c.processes] == [1] * 5 and
                  all(p.alive() for p in c.processes), "all processes lived through it")


scenario.run(main, __doc__)
