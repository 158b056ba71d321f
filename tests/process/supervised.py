"""Supervised: the two sides of a supervised process that a test needs: the socket on which it tells
how it is, and a hand that makes single threads of it stand still.

    ear = Ear(process, watchdog_s=4)    # before process.start()
    ear.wait("READY=1")
    with Hold(disk_threads(process.popen.pid)):
        ...
"""
import ctypes
import os
import random
import socket
import threading
import time

from cluster import Failed, wait_for

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # waitpid() for threads


class Ear:
    """What a process told its supervisor: a list of messages, each a list of lines."""

    def __init__(self, process, watchdog_s):
        self.process = process
        name = f"duet-test-{os.getpid()}-{process.name}-{random.getrandbits(64):x}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name)  # a name that leaves no file behind
        process.environment = {"NOTIFY_SOCKET": "@" + name,
                               "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        self.messages = []
        self.fed = time.monotonic()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        while True:
            lines = self.socket.recv(65536).decode().splitlines()
            if "WATCHDOG=1" in lines:
                self.fed = time.monotonic()
            self.messages.append(lines)

    def lines(self, since=0):
        return [line for message in self.messages[since:] for line in message]

    def count(self, line, since=0):
        return self.lines(since).count(line)

    def status(self):
        said = [line for line in self.lines() if line.startswith("STATUS=")]
        return said[-1][len("STATUS="):] if said else ""

    def wait(self, line, since=0, more=1):
        wait_for(lambda: self.count(line, since) >= more, f"{self.process.name} says {line}")

    def wait_status(self, words):
        wait_for(lambda: words in self.status(), f"the status of {self.process.name}: '{words}'")

    def wait_hungry(self, seconds):
        """Until the watchdog was not fed for so long."""
        wait_for(lambda: time.monotonic() - self.fed > seconds,
                 f"{self.process.name} feeds no watchdog")


def threads(pid):
    """Names of all threads by their ids."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8") as comm:
            found[int(tid)] = comm.read().strip()
    return found


def disk_threads(pid):
    """Neither the loop nor ZeroMQ's: they write the log and the table, and read it."""
    return [tid for tid, name in threads(pid).items() if tid != pid and not name.startswith("ZMQ")]


class Hold:
    """These threads of a process stand still, the others go on."""

    def __init__(self, tids):
        self.tids = tids
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long

    def _ptrace(self, request, tid):
        if self.libc.ptrace(request, tid, None, None) != 0:
            raise Failed(f"ptrace of thread {tid}: {os.strerror(ctypes.get_errno())}")

    def __enter__(self):
        for tid in self.tids:
            self._ptrace(PTRACE_SEIZE, tid)
            self._ptrace(PTRACE_INTERRUPT, tid)
            os.waitpid(tid, WALL)
        return self

    def __exit__(self, kind, error, trace):
        for tid in self.tids:
            self._ptrace(PTRACE_DETACH, tid)
