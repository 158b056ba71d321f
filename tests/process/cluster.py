"""Cluster: real processes of one test, in a directory and on ports of their own.

    with Cluster(build, nodes=3, routers=2) as c:
        c.start()                       # and wait until everything serves
        c.duet("put", "apple", "red")
        c.nodes[0].kill()               # SIGKILL; also stop(), pause(), resume(), start()
        c.wait_serving()

Ends only what it started. When a test fails, the last lines of every log are printed.
Python's standard library only.
"""
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PORT_MIN, PORT_MAX = 10000, 32000  # below the ephemeral ports, which could connect to themselves
LOG_LINES = 25
NODE_FLAGS = ("--segment-size", "4")  # a first start writes whole segments of zeros

# Small enough that checkpoints, full and recycled segments and reader threads happen all the time.
SMALL_NODE_FLAGS = ("--segment-size", "1", "--log-retention", "4", "--replay-max", "8",
                    "--overlay-size", "1", "--overlay-entries", "1000", "--memory", "1")


class Failed(Exception):
    """Something did not happen that must, or the other way round."""


def wait_for(condition, what, timeout=60.0, pause=0.02):
    """Call condition until it returns something true; that is returned."""
    until = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {timeout:g} s")
        time.sleep(pause)


def _bindable(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """The first of count consecutive ports that nobody uses."""
    for _ in range(200):
        first = random.randrange(PORT_MIN, PORT_MAX - count)
        if all(_bindable(first + i) for i in range(count)):
            return first
    raise Failed(f"no {count} consecutive free ports")


def _die_with_parent():
    """A test that is killed leaves no processes behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Process:
    """One program with its log file; may be started again."""

    def __init__(self, name, argv, log, enter_host=None):
        self.name, self.argv, self.log = name, argv, log
        self.enter_host = enter_host  # called in the new process: see network.py
        self.popen = None
        self.starts = 0
        self.environment = {}  # on top of a clean one

    def start(self):
        assert not self.alive(), f"{self.name} runs already"
        with open(self.log, "ab") as log:
            log.write(f"---- start {self.starts + 1} of {self.name}\n".encode())
            log.flush()
            self.popen = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=self._prepare,
                env={**clean_environment(), **self.environment})
        self.starts += 1

    def _prepare(self):
        _die_with_parent()
        if self.enter_host:
            self.enter_host()

    def alive(self):
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        if self.alive():
            self.popen.kill()
            self.popen.wait()

    def stop(self, timeout=30):
        """SIGTERM; returns the exit code."""
        self.popen.terminate()
        return self.popen.wait(timeout)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def wait_exit(self, timeout=30):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {timeout} s") from None

    def output(self):
        """What it wrote since its last start."""
        with open(self.log, "rb") as log:
            text = log.read().decode(errors="replace")
        return text[text.rindex("---- start"):] if "---- start" in text else text

    def anonymous_kib(self):
        """Memory that is its own: the resident set also counts LMDB's map."""
        with open(f"/proc/{self.popen.pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        raise Failed(f"no RssAnon of {self.name}")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.popen.pid}/fd"))


def clean_environment():
    """Without settings of whoever runs the tests, and without the supervisor of that."""
    foreign = ("DUET_", "NOTIFY_SOCKET", "WATCHDOG_")
    return {k: v for k, v in os.environ.items() if not k.startswith(foreign)}


class Cluster:
    def __init__(self, build, nodes=3, routers=2, copies=2, partitions=1024, node_flags=NODE_FLAGS,
                 router_flags=(), found_flags=(), dir=None, network=None):
        """With a network each node has a host of its own, then each router: see network.py."""
        self.build, self.network = os.path.abspath(build), network
        self.dir = tempfile.mkdtemp(prefix="duet-test-", dir=dir)
        port = free_ports(3 * nodes + routers)
        hosts = network.addresses if network else ["127.0.0.1"] * (nodes + routers)
        self.node_addresses = [f"tcp://{hosts[i]}:{port + 3 * i}" for i in range(nodes)]
        self.router_addresses = [f"tcp://{hosts[nodes + i]}:{port + 3 * nodes + i}"
                                 for i in range(routers)]
        if network:
            node_flags, router_flags = (*node_flags, "--insecure"), (*router_flags, "--insecure")
        self.cluster_file = os.path.join(self.dir, "cluster.conf")
        self._found(copies, partitions, found_flags)
        self.nodes = [self._node(i, node_flags) for i in range(nodes)]
        self.routers = [self._router(i, router_flags) for i in range(routers)]

    def program(self, name):
        return os.path.join(self.build, "bin", name)

    def _found(self, copies, partitions, flags):
        pairs = ",".join(f"n{i + 1}={a}" for i, a in enumerate(self.node_addresses))
        with open(self.cluster_file, "wb") as to:
            subprocess.run([self.program("duet-storage"), "--found", "--nodes", pairs,
                            "--copies", str(copies), "--partitions", str(partitions), *flags],
                           stdout=to, check=True, env=clean_environment())

    def _node(self, index, flags):
        name = f"n{index + 1}"
        argv = [self.program("duet-storage"), "--cluster", self.cluster_file, "--name", name,
                "--dir", os.path.join(self.dir, name), *flags]
        os.mkdir(os.path.join(self.dir, name))
        return Process(name, argv, os.path.join(self.dir, name + ".log"), self._host(index))

    def _router(self, index, flags):
        name = f"r{index + 1}"
        argv = [self.program("duet-router"), "--listen", self.router_addresses[index], "--name",
                name, "--nodes", ",".join(self.node_addresses), *flags]
        return Process(name, argv, os.path.join(self.dir, name + ".log"),
                       self._host(len(self.nodes) + index))

    def _host(self, index):
        return self.network.host(index) if self.network else None

    # ------------------------------------------------------------------ life

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self.print_logs()
        self.close()

    def close(self):
        for p in self.processes:
            p.kill()
        if os.environ.get("KEEP"):
            print(f"kept: {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)

    @property
    def processes(self):
        return self.nodes + self.routers

    def start(self):
        for p in self.processes:
            p.start()
        self.wait_serving()

    def print_logs(self):
        for p in self.processes:
            if not os.path.exists(p.log):
                continue
            state = "runs" if p.alive() else "does not run"
            print(f"---- the last lines of {p.name}, which {state}")
            with open(p.log, "rb") as log:
                for line in log.read().decode(errors="replace").splitlines()[-LOG_LINES:]:
                    print("    " + line)
        sys.stdout.flush()

    # ------------------------------------------------------------------ the command line

    @property
    def all_routers(self):
        return ",".join(self.router_addresses)

    def duet(self, *words, router=None, stdin=None, timeout=60, input_file=None):
        """Run `duet`, through one router (its index) or all. Output as bytes."""
        routers = self.all_routers if router is None else self.router_addresses[router]
        argv = [self.program("duet"), "--routers", routers, *words]
        given = {"stdin": input_file} if input_file else {"input": stdin or b""}
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=timeout, env=clean_environment(), **given)

    def good(self, *words, **options):
        """Run `duet`, which must succeed; its output."""
        done = self.duet(*words, **options)
        if done.returncode != 0:
            raise Failed(f"duet {' '.join(words)[:200]}: exit code {done.returncode}: "
                         f"{done.stderr.decode(errors='replace')[:500]}")
        return done.stdout

    def status(self):
        """What `duet status` says; None while nobody answers."""
        done = self.duet("status", "-o", "json")
        return json.loads(done.stdout) if done.returncode in (0, 5) else None

    def serving(self):
        """Is everything well: all processes there, all partitions taking writes?"""
        for p in self.processes:
            if p.starts > 0 and not p.alive():
                raise Failed(f"{p.name} ended with exit code {p.popen.returncode}")
        return self.duet("status").returncode == 0

    def wait_serving(self, timeout=60):
        try:
            wait_for(self.serving, "the cluster serves", timeout)
        except Failed:
            print(self.duet("status").stdout.decode(errors="replace"))
            raise
