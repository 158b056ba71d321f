"""Network: hosts of their own for the processes of one test, and what can be wrong between them.

    with Network(run, hosts=4, seed=1) as net:
        with run.cluster(network=net) as c:   # nodes and routers on the first hosts
            ...
            net.set({(0, 1): Path(loss=1000)})    # host 0 is not heard by host 1; all else is well
            net.set({})

The test itself, and the programs that it starts, move to the last host. See wire.c for how packets
travel. Needs CAP_NET_ADMIN and /dev/net/tun; NotAllowed says what is missing.
"""
import collections
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys

from cluster import Failed, wait_for
from scenario import Tool

CLONE_NEWNET = 0x40000000
NOT_ALLOWED = 77
SUBNET = "10.117.20"

# Of a direction: lost packets in a thousand, delay, and what comes on top of it by chance.
Path = collections.namedtuple("Path", "loss delay_ms jitter_ms", defaults=(0, 0, 0))


class NotAllowed(Exception):
    """This machine, or this user, cannot make networks."""


def enter(namespace):
    """Move the calling thread to a network namespace, an open file of it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def become_root_of_own():
    """A user who is not root starts the test again as root of a user namespace, where allowed: the
    networks that are made there are as private, and need no right outside."""
    unshare = shutil.which("unshare")
    if os.geteuid() == 0 or unshare is None or os.environ.get("DUET_TEST_UNSHARED"):
        return
    if subprocess.run([unshare, "-rn", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return
    os.environ["DUET_TEST_UNSHARED"] = "1"
    os.execv(unshare, [unshare, "-rn", sys.executable, *sys.argv])


class Network:
    def __init__(self, run, hosts, seed):
        self.addresses = [f"{SUBNET}.{i + 1}" for i in range(hosts)]
        self.wire = Tool(run, run.program("wire"), str(seed), *self.addresses)
        self.paths, self.namespaces = {}, []
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            wait_for(self._ready, "the network is there")
        except BaseException:
            self._end()
            raise
        self._open_namespaces()
        enter(self.namespaces[-1])

    def _ready(self):
        if self.wire.popen.poll() is not None:
            self.wire.reader.join()
            why = "; ".join(self.wire.lines)
            raise (NotAllowed if self.wire.popen.returncode == NOT_ALLOWED else Failed)(why)
        return "ready" in self.wire.lines

    def _open_namespaces(self):
        of_wire = f"/proc/{self.wire.popen.pid}/fd"
        for line in self.wire.lines:
            if line.startswith("host "):
                self.namespaces.append(os.open(f"{of_wire}/{line.split()[2]}", os.O_RDONLY))

    def host(self, index):
        """What a process of this host calls before its program starts."""
        return lambda: enter(self.namespaces[index])

    def socket(self, index):
        """A UDP socket of this host, bound to a port of it."""
        enter(self.namespaces[index])
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        enter(self.namespaces[-1])
        s.bind((self.addresses[index], 0))
        s.settimeout(10)
        return s

    def set(self, paths):
        """From now on these directions, (from, to): Path, are as said, and all others are well."""
        self.wire.alive()
        for way in {*self.paths, *paths}:
            if self.paths.get(way) != paths.get(way):
                words = " ".join(str(n) for n in (*way, *paths.get(way, Path())))
                self.wire.popen.stdin.write(f"set {words}\n")
        self.wire.popen.stdin.flush()
        self.paths = dict(paths)

    def finish(self):
        """Ends it; how many packets were carried, lost, and late."""
        if self.wire.finish() == 0:
            for line in self.wire.lines:
                if line.startswith("figures "):
                    return json.loads(line[len("figures "):])
        raise Failed("wire: " + "; ".join(self.wire.lines))

    def _end(self):
        self.wire.__exit__()
        for fd in (*self.namespaces, self.home):
            os.close(fd)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        enter(self.home)
        self._end()
