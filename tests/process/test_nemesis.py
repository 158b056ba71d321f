"""Random faults that overlap, on five nodes and two routers with a network of their own, while
clients go on: processes are killed, stopped, told to leave, all of them lose power; nodes are
drained; nodes and routers do not hear each other, in one direction or both, or hear late, or in
part. After each round of faults everything must be well again by itself, and at the end nothing is
lost, doubled or seen in the wrong order, and all copies are the same.

--long: a thousand faults, at least thirty minutes and 500,000 operations. SEED=N repeats the
choices, FAULTS=N makes another number of them."""
import os
import random
import signal
import subprocess
import time

import network
import scenario
from cluster import (SMALL_NODE_FLAGS, Failed, _die_with_parent, clean_environment,
                     wait_for)
from network import Network, NotAllowed, Path
from scenario import Canary, Load, compare_copies

NODES, ROUTERS = 5, 2
HOSTS = NODES + ROUTERS + 1  # the last one is that of the clients
FAULTS, FAULTS_LONG = 32, 1000
SECONDS_LONG, OPERATIONS, OPERATIONS_LONG = 1800, 15000, 500000
FAULTS_A_ROUND = 8
TOGETHER_MAX = 4
GAP_S = 1.3              # from one fault to the next, in the mean
LONG_S, SHORT_S = 5, 0.05  # a fault
# After the last fault of a round. A copy that was left out again and again waits for 64 s at most
# until it is taken back; where the machine had no time for its programs, nodes were left out that
# nothing was wrong with, and that wait begins anew. So the time counts from then. And on a machine
# that never has time the next round begins, and that is said, as soon as everything takes writes.
WELL_S, WELL_S_MAX = 90, 600
HECTIC_S = 60
LEAVE_S = 60             # a limit of our own; a node's own is 5 s
CUT = Path(loss=1000)


class Fault:
    """What is wrong, until when, and how it ends: heal() is called until it returns true."""

    def __init__(self, what, processes=(), ways=None, heal=lambda: True):
        self.what, self.processes, self.ways, self.heal = what, set(processes), ways or {}, heal
        self.ends = 0.0


class Nemesis:
    def __init__(self, run, cluster, net, canary, seed):
        self.run, self.cluster, self.net, self.canary = run, cluster, net, canary
        self.chosen = random.Random(seed)
        self.faults, self.counts, self.drained, self.clerks = [], {}, set(), []
        self.deck = []
        self.diary = open(os.path.join(cluster.dir, "nemesis.log"), "w", buffering=1)
        self.well_s = []  # after each round, how long it took until all was well again
        self.hectic_rounds = 0  # after which the next one began before that

    # ---------------------------------------------------------------- faults of processes

    def some_process(self, among):
        """One that nothing is wrong with; None: there is none."""
        busy = set().union(*(f.processes for f in self.faults))
        quiet = [p for p in among if p not in busy]
        return self.chosen.choice(quiet) if quiet else None

    def kill(self, among):
        p = self.some_process(among)
        if p:
            p.kill()
            return Fault(f"kill {p.name}", [p], heal=lambda: p.start() or True)

    def kill_node(self):
        return self.kill(self.cluster.nodes)

    def kill_router(self):
        return self.kill(self.cluster.routers)

    def pause(self):
        p = self.some_process(self.cluster.processes)
        if p:
            p.pause()
            return Fault(f"pause {p.name}", [p], heal=lambda: p.resume() or True)

    def leave(self):
        p = self.some_process(self.cluster.nodes)
        if p:
            p.signal(signal.SIGTERM)
            began = time.monotonic()
            return Fault(f"leave {p.name}", [p], heal=lambda: self.has_left(p, began))

    def has_left(self, p, began):
        if p.alive():
            if time.monotonic() > began + LEAVE_S:
                raise Failed(f"{p.name} did not end within {LEAVE_S} s of SIGTERM")
            return False
        if p.popen.returncode != 0:
            raise Failed(f"{p.name} left with exit code {p.popen.returncode}")
        p.start()
        return True

    def power_failure(self):
        """Also of what is paused or about to leave; what was wrong with processes is over then."""
        self.faults = [f for f in self.faults if not f.processes]
        for p in self.cluster.processes:
            p.kill()
        return Fault("power", self.cluster.processes, heal=self.power_back)

    def power_back(self):
        for p in self.cluster.processes:
            p.start()
        return True

    def drain(self):
        p = self.some_process(self.cluster.nodes)
        if p:
            self.drained.add(p)
            self.ask("drain", p)
            return Fault(f"drain {p.name}", heal=lambda: self.ask("undrain", p))

    def ask(self, word, p):
        """`duet admin`, in the background; the node may not be there, or not be reached."""
        self.clerks.append(subprocess.Popen(
            [self.cluster.program("duet"), "--routers", self.cluster.all_routers, "admin", word,
             p.name], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent, env=clean_environment()))
        return True

    def undrain(self):
        for clerk in self.clerks:
            clerk.kill()
            clerk.wait()
        self.clerks.clear()
        for p in self.drained:
            wait_for(lambda: self.cluster.duet("admin", "undrain", p.name).returncode == 0,
                     f"{p.name} can be asked to take part again", WELL_S_MAX)
        self.drained.clear()

    # ---------------------------------------------------------------- faults of the network

    def name(self, host):
        return "clients" if host == HOSTS - 1 else self.cluster.processes[host].name

    def ways(self, from_hosts, to_hosts, path):
        """One direction or the other or both, so that also what is half cut off occurs."""
        there = {(a, b): path for a in from_hosts for b in to_hosts if a != b}
        back = {(b, a): path for a, b in there}
        return self.chosen.choice([there, back, {**there, **back}, {**there, **back}])

    def network_fault(self, what, from_hosts, to_hosts, path):
        ways = self.ways(from_hosts, to_hosts, path)
        told = " ".join(f"{self.name(a)}>{self.name(b)}" for a, b in sorted(ways))
        return Fault(f"{what} {tuple(path)} {told}", ways=ways)

    def cut_pair(self):
        a, b = self.chosen.sample(range(NODES), 2)
        return self.network_fault("cut", [a], [b], CUT)

    def cut_from_nodes(self):
        a = self.chosen.randrange(NODES)
        return self.network_fault("cut_from_nodes", [a], range(NODES), CUT)

    def cut_from_routers(self):
        a = self.chosen.randrange(NODES)
        return self.network_fault("cut_from_routers", [a], range(NODES, NODES + ROUTERS), CUT)

    def cut_in_two(self):
        """The nodes, with their routers, in two parts that do not hear each other."""
        hosts = self.chosen.sample(range(NODES + ROUTERS), NODES + ROUTERS)
        at = self.chosen.randrange(1, NODES + ROUTERS)
        return self.network_fault("cut_in_two", hosts[:at], hosts[at:], CUT)

    def spoil(self, what, path):
        """A direction, a pair, or all of a host's packets, to clients too."""
        a, b = self.chosen.sample(range(HOSTS), 2)
        return self.network_fault(what, [a], self.chosen.choice([[b], range(HOSTS)]), path)

    def late(self):
        delay = self.chosen.randint(1, 200)
        return self.spoil("late", Path(0, delay, self.chosen.randint(0, delay)))

    def lossy(self):
        return self.spoil("lossy", Path(self.chosen.randint(10, 300)))

    def wire(self):
        """What all faults together do to each direction."""
        together = {}
        for f in self.faults:
            for way, path in f.ways.items():
                together[way] = Path(*map(max, path, together.get(way, Path())))
        if self.net:
            self.net.set(together)

    # ---------------------------------------------------------------- one after the other

    def kinds(self):
        """Each as often as it stands here, in any order, before any one comes again."""
        of_processes = [self.kill_node] * 3 + [self.kill_router, self.leave, self.drain,
                                               self.power_failure] + [self.pause] * 3
        of_network = [self.cut_pair] * 3 + [self.cut_from_nodes, self.cut_from_routers,
                                            self.cut_in_two, self.late, self.late, self.lossy,
                                            self.lossy]
        return of_processes + (of_network if self.net else [])

    def strike(self):
        if not self.deck:
            self.deck = self.kinds()
            self.chosen.shuffle(self.deck)
        fault = self.deck.pop()()
        lasts = SHORT_S * (LONG_S / SHORT_S) ** self.chosen.random()
        if fault is None:
            return
        fault.ends = time.monotonic() + lasts
        self.faults.append(fault)
        self.wire()
        kind = fault.what.split()[0]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.tell(f"{fault.what}, for {lasts:.2f} s, {len(self.faults)} together")

    def heal(self, now):
        over = [f for f in self.faults if now >= f.ends and f.heal()]
        for f in over:
            self.faults.remove(f)
            self.tell(f"over: {f.what}")
        if over:
            self.wire()

    def watch(self):
        """Whoever was not told to must not end."""
        busy = set().union(*(f.processes for f in self.faults))
        for p in self.cluster.processes:
            if p not in busy and not p.alive():
                raise Failed(f"{p.name} ended by itself, with exit code {p.popen.returncode}")

    def tell(self, what):
        now = time.time()
        self.diary.write(time.strftime("%H:%M:%S", time.gmtime(now)) + f".{now % 1 * 1000:03.0f} " +
                         what + "\n")

    @property
    def count(self):
        return sum(self.counts.values())

    def round(self, load):
        target, due = self.count + FAULTS_A_ROUND, time.monotonic()
        while self.count < target or self.faults:
            load.alive()
            now = time.monotonic()
            self.heal(now)
            self.watch()
            if self.count < target and now >= due and len(self.faults) < TOGETHER_MAX:
                self.strike()
                due = now + self.chosen.expovariate(1 / GAP_S)
            time.sleep(0.01)
        self.tell("all faults are over")
        self.recover(load)

    def waited(self, began):
        return time.monotonic() - max(began, self.canary.hectic)

    def hectic(self, began):
        """Is the machine to blame, and does everything serve, if not with all copies?"""
        now = time.monotonic()
        if now < began + HECTIC_S or now > self.canary.hectic + HECTIC_S / 4:
            return False
        said = self.cluster.status()
        if not said or "cluster" not in said:
            return False
        return (all(p["up"] for p in said["nodes"] + said["routers"]) and
                said["cluster"]["partitions_writable"] == said["cluster"]["partitions"])

    def recover(self, load):
        began = time.monotonic()
        self.undrain()
        how = wait_for(lambda: (self.cluster.serving() and "well") or
                       (self.waited(began) > WELL_S and "late") or
                       (self.hectic(began) and "hectic"), "all is well again", WELL_S_MAX)
        took = time.monotonic() - began
        if how == "late":
            print(self.cluster.duet("status").stdout.decode(errors="replace"))
            raise Failed(f"all is well again: not within {took:.0f} s, {WELL_S} s of them without "
                         "anything in the way")
        if how == "well":
            self.well_s.append(took)
        else:
            self.hectic_rounds += 1
        self.tell(f"{how} after {took:.2f} s")
        load.wait_writes(300)


def storm(run, c, load, nemesis):
    faults = int(os.environ.get("FAULTS", FAULTS_LONG if run.long else FAULTS))
    until = time.monotonic() + (SECONDS_LONG if run.long else 0)
    operations = OPERATIONS_LONG if run.long else OPERATIONS
    said = 0
    while (nemesis.count < faults or time.monotonic() < until or
           load.operations < operations * 1.05):
        nemesis.round(load)
        if nemesis.count >= said + 100:
            said = nemesis.count
            run.say(f"{said} faults, {load.operations} operations")
    well = sorted(nemesis.well_s) or [0]
    run.check(nemesis.count >= faults,
              f"{nemesis.count} faults: " +
              ", ".join(f"{k} x {v}" for k, v in sorted(nemesis.counts.items())))
    run.check(True, f"all was well again after {len(nemesis.well_s)} rounds, within "
              f"{well[len(well) // 2]:.1f} s in the median, {well[-1]:.1f} s at most "
              f"({nemesis.canary}; {nemesis.hectic_rounds} rounds without all copies, for the "
              "machine had no time)")


def under(run, net, seed):
    operations = OPERATIONS_LONG if run.long else OPERATIONS
    with run.cluster(nodes=NODES, routers=ROUTERS, partitions=128, node_flags=SMALL_NODE_FLAGS,
                     network=net) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", str(operations), "--rate", "800", "--readers", "1",
                     "--until-stop", "--seed", str(seed % 99999999 + 1), "--timeout", "20000",
                     "--key-operations", "15", "--final", final) as load:
            load.wait_writes(500)
            storm(run, c, load, Nemesis(run, c, net, canary, seed))
            load.finish(timeout=1200)
        compare_copies(run, c, final)
        c.wait_serving()


def main(run):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    run.say(f"SEED={seed}")
    try:
        net = Network(run, HOSTS, seed)
    except NotAllowed as why:
        run.say(f"no network of its own on this machine, so faults of processes only: {why}")
        under(run, None, seed)
        return
    with net:
        under(run, net, seed)
        figures = net.finish()
        run.check(figures["lost"] > 0 and figures["late"] > 0,
                  f"packets: {figures['carried']} carried, {figures['lost']} lost, "
                  f"{figures['late']} late")


network.become_root_of_own()
scenario.run(main, __doc__)
