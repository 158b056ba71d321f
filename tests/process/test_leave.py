"""SIGTERM to one node after the other while ten clients read and write: it hands over what it leads,
is left out by those who lead, and ends. Nobody is refused, nothing is in doubt, and nothing waits as
long as for a node that died."""
import os
import time

import scenario
from scenario import Canary, Load, compare_copies, wait_for


SUSPECT_MS = 300  # a machine that stands still for longer makes a node missing


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


def drain(run, c):
    """The same without an end of the process, and back."""
    said = c.good("admin", "drain", "n2").decode()
    led = {n["name"]: n["partitions_led"] for n in c.status()["nodes"]}
    run.check("is drained" in said and led["n2"] == 0 and sum(led.values()) == 1024,
              f"admin drain: others lead everything {led}")
    status = c.duet("status")
    run.check(status.returncode == 5 and b"n2 is drained" in status.stdout, "status says so")
    c.good("admin", "undrain", "n2")
    c.wait_serving()
    wait_for(lambda: all(n["partitions_led"] > 300 for n in c.status()["nodes"]),
             "n2 leads again")
    done = c.duet("admin", "drain", "n9")
    run.check(done.returncode == 2 and b"no node 'n9'" in done.stderr, "drain of no node: wrong use")


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
        if canary.slept_ms < SUSPECT_MS / 2:
            run.check(figures["in_doubt"] == 0 and figures["writes_not_done"] == 0 and
                      figures["still_not_done"] == 0, "no request failed, none was in doubt")
        else:
            run.say(f"not judged whether a request failed, for nodes were suspected: {canary}")
        run.check(figures["write_gap_ms"] < canary.allowed_ms(500),
                  f"writes did not stop ({figures['write_gap_ms']} ms at most; {canary})")
        compare_copies(run, c, final)
        drain(run, c)
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
