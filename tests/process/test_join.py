"""A node that comes back with another address, and one that joins, under load: routers and nodes find
them, clients notice nothing; what they learnt is in their directories."""
import os

import scenario
from cluster import NODE_FLAGS, Cluster, Process, free_ports
from scenario import Canary, Load, wait_for


def node_of(c, name):
    return [n for n in (c.status() or {"nodes": []})["nodes"] if n["name"] == name]


def address_of(c, name):
    return node_of(c, name)[0]["address"]


def whole(c):
    s = c.status()
    return s and s["cluster"]["partitions_writable"] == 1024 and \
        s["cluster"]["partitions_lacking_copies"] == 0


def move(run, c, load, index):
    """It listens elsewhere from its next start on; later starts need not be told again."""
    node, moved = c.nodes[index], f"tcp://127.0.0.1:{free_ports(3)}"
    argv = list(node.argv)
    node.stop()
    node.argv = [*argv, "--listen", moved]
    node.start()
    c.wait_serving()
    run.check(address_of(c, node.name) == moved, f"{node.name} is at {moved}: all is well")
    node.stop()
    node.argv = argv
    node.start()
    c.wait_serving()
    run.check(address_of(c, node.name) == moved, "and remembers it")
    load.wait_writes(500)
    load.wait_reads(500)
    other = c.nodes[(index + 1) % 3]
    node.stop()
    node.argv = [*argv, "--listen", address_of(c, other.name)]
    node.start()
    run.check(node.wait_exit() == 78 and f"meet those of node {other.name}" in node.output(),
              "not at another's address")
    node.argv = argv
    node.start()
    c.wait_serving()


def joiner(c, name, listen, *flags, dir=None):
    path = os.path.join(c.dir, dir or name)
    os.makedirs(path, exist_ok=True)
    return Process(name, [c.program("duet-storage"), "--name", name, "--dir", path, "--listen", listen,
                          *NODE_FLAGS, *flags], os.path.join(c.dir, name + "-joins.log"))


def refused(run, c, what, code, words, *argv, **options):
    p = joiner(c, *argv, **options)
    p.start()
    run.check(p.wait_exit(60) == code and words in p.output(),
              f"{what}: exit code {p.popen.returncode}, {p.output().splitlines()[-1]}")


def refusals(run, c, foreign):
    at, free = ("--join", address_of(c, "n1")), f"tcp://127.0.0.1:{free_ports(3)}"
    refused(run, c, "a name in use", 78, "the name n1 is in use", "n1", free, *at, dir="x1")
    refused(run, c, "an address in use", 78, "meet those of node n2", "x2", address_of(c, "n2"), *at)
    refused(run, c, "nobody there", 69, "no node answers", "x3", free, "--join", free)
    refused(run, c, "neither cluster file nor cluster", 64, "--join a cluster", "x4", free)
    foreign_node = foreign.nodes[0].argv
    refused(run, c, "a directory of another cluster", 69, "belongs to", "n1", free, *at,
            dir=foreign_node[foreign_node.index("--dir") + 1])


def join(run, c, load):
    argv = ("n4", f"tcp://127.0.0.1:{free_ports(3)}")
    node = joiner(c, *argv, "--join", address_of(c, "n2"))
    node.start()
    c.nodes.append(node)
    wait_for(lambda: [n for n in node_of(c, "n4") if n["up"] and n["routers_reaching"] == 2],
             "n4 is known, and reached by the routers")
    c.wait_serving()
    run.check(node_of(c, "n4")[0]["partitions_led"] == 0, "n4 joined, and holds nothing")
    node.kill()
    node.argv = joiner(c, *argv).argv
    node.start()
    c.wait_serving()
    run.check(True, "its second start needs no --join")
    load.wait_more(500)
    wait_for(lambda: c.duet("admin", "voters", "n1,n2,n4").returncode == 0, "n4 votes", timeout=20)
    for index in (0, 1):
        c.nodes[index].kill()
        load.wait_writes(500)
        c.nodes[index].start()
        c.wait_serving()
    run.check(c.status()["cluster"]["voters"] == ["n1", "n2", "n4"], "n4 votes in place of n3")
    return node


def power_failure(run, c):
    for node in c.nodes:
        node.kill()
    for node in c.nodes:
        node.start()
    c.wait_serving()
    run.check(c.status()["cluster"]["voters"] == ["n1", "n2", "n4"],
              "all killed at once, and back: they find each other")


def main(run):
    with run.cluster() as c, Cluster(run.build, nodes=1, routers=1, copies=1) as foreign:
        foreign.nodes[0].start()
        wait_for(lambda: "event=serving" in foreign.nodes[0].output(), "the other cluster serves")
        foreign.nodes[0].stop()
        c.start()
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", "10000", "--rate", "1000", "--until-stop",
                     "--timeout", "10000", "--final", final) as load:
            load.wait_more(500)
            move(run, c, load, 1)
            refusals(run, c, foreign)
            join(run, c, load)
            figures = load.finish(tell_slow=True)
        run.check(figures["still_not_done"] == 0, f"every key that nobody changes was read ({canary})")
        power_failure(run, c)
        run.check(c.good("put", "apple", "red") and c.good("get", "apple") == b"red",
                  "reads and writes go on")


scenario.run(main, __doc__)
