"""Under a supervisor: what nodes and routers tell it, when, and that the watchdog's food comes from a
loop that turns and a disk that works."""
import socket

import scenario
from supervised import Ear, Hold, disk_threads

WATCHDOG_S = 4  # fed every second
HUNGRY_S = 3


def connects(address):
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    with socket.socket() as s:
        return s.connect_ex((host, int(port))) == 0


def router_waits(run, c, ears):
    """Without any node: it turns, but is not ready."""
    router = ears["r1"]
    c.routers[0].start()
    router.wait("WATCHDOG=1", more=2)
    run.check("waiting for one of the nodes tcp://" in router.status(),
              f"r1 without nodes: {router.status()[:60]}...")
    run.check(router.count("READY=1") == 0, "... and is not ready")


def all_ready(run, c, ears):
    for node, address in zip(c.nodes, c.node_addresses):
        node.start()
        ears[node.name].wait("READY=1")
        run.check(connects(address), f"{node.name} is ready: {ears[node.name].status()}")
        run.check(f"serving on {address}" in ears[node.name].status(), "... its status is the address")
    ears["r1"].wait("READY=1")
    run.check(True, "r1 is ready when nodes answer")
    c.wait_serving()
    ears["r1"].wait_status("all 3 nodes answer")
    run.check(True, f"r1: {ears['r1'].status()}")


def node_is_killed(run, c, ears):
    c.good("mput", *(word for i in range(200) for word in (f"key{i}", "value" * 50)))
    node, ear = c.nodes[2], ears["n3"]
    node.kill()
    ears["r1"].wait_status("1 of 3 nodes do not answer: n3")
    run.check(True, f"n3 killed; r1: {ears['r1'].status()}")
    heard = len(ear.messages)
    node.start()
    ear.wait("READY=1", since=heard)
    lines = ear.lines(heard)
    recovering = [n for n, line in enumerate(lines) if line.startswith("STATUS=recovering: 100 %")]
    extended = [n for n, line in enumerate(lines) if line.startswith("EXTEND_TIMEOUT_USEC=")]
    run.check(recovering and extended and max(recovering + extended) < lines.index("READY=1"),
              "n3 recovers, asks for time meanwhile, and is ready afterwards")
    ears["r1"].wait_status("all 3 nodes answer")
    c.wait_serving()


def loop_stands_still(run, process, ear):
    with Hold([process.popen.pid]):
        ear.wait_hungry(HUNGRY_S)
        run.check(True, f"{process.name}: a main thread that stands still feeds no watchdog")
    heard = len(ear.messages)
    ear.wait("WATCHDOG=1", since=heard, more=3)
    run.check(True, "... and one that goes on does")


def disk_stands_still(run, c, ears):
    node, ear = c.nodes[0], ears["n1"]
    tids = disk_threads(node.popen.pid)
    run.check(len(tids) >= 3, f"n1 has {len(tids)} threads for its disk")
    with Hold(tids):
        answers = {c.duet("--timeout", "200", "put", f"key{i}", "again").returncode for i in range(8)}
        ear.wait_hungry(HUNGRY_S)
        run.check(4 in answers, "they stand still: writes wait, and n1 feeds no watchdog")
        up = [n["name"] for n in c.status()["nodes"] if n["up"]]
        run.check("n1" in up, "... though its loop turns and answers")
    heard = len(ear.messages)
    ear.wait("WATCHDOG=1", since=heard, more=2)
    c.wait_serving()
    run.check(c.good("put", "key0", "anew").startswith(b"ok"), "they go on: all is well again")


def all_stop(run, c, ears):
    for process in c.processes:
        code = process.stop()
        ear = ears[process.name]
        ear.wait("STOPPING=1")
        run.check(code == 0 and ear.messages[-1] == ["STOPPING=1", "STATUS=stopping"],
                  f"{process.name} says that it stops, and ends with {code}")


def main(run):
    with run.cluster(routers=1) as c:
        ears = {p.name: Ear(p, WATCHDOG_S) for p in c.processes}
        router_waits(run, c, ears)
        all_ready(run, c, ears)
        node_is_killed(run, c, ears)
        for process in (c.nodes[1], c.routers[0]):
            loop_stands_still(run, process, ears[process.name])
        c.wait_serving()
        disk_stands_still(run, c, ears)
        all_stop(run, c, ears)


scenario.run(main, __doc__)
