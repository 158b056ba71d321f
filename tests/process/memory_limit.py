"""MemoryLimit: a control group of its own for the processes of one test, with a limit of memory that
counts the pages of their files, too. Version 2 of control groups where the memory controller is to be
had there, else version 1. Below the group that the test itself is in; it goes with the test.

    with MemoryLimit(bytes, "n1") as limit:  # directory None where none may be made: why tells
        process.enter_host = limit.enter
"""
import os
import time


def _own_groups():
    """(version, directory) of each group with a memory controller that this process is in."""
    mounts = {}
    with open("/proc/self/mounts", encoding="ascii") as lines:
        for line in lines:
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup2":
                mounts[2] = where
            elif kind == "cgroup" and "memory" in options.split(","):
                mounts[1] = where
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        for line in lines:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if number == "0" and 2 in mounts:
                yield 2, mounts[2] + path
            elif "memory" in controllers.split(",") and 1 in mounts:
                yield 1, mounts[1] + path


def _write(path, text):
    with open(path, "w", encoding="ascii") as to:
        to.write(text)


class MemoryLimit:
    def __init__(self, size, name):
        self.directory, self.why = None, "no control group with a memory controller"
        for version, parent in _own_groups():
            path = os.path.join(parent, f"duet-test-{os.getpid()}-{name}")
            try:
                os.mkdir(path)
            except OSError as error:
                self.why = str(error)
                continue
            try:
                _write(os.path.join(path, "memory.max" if version == 2
                                    else "memory.limit_in_bytes"), str(size))
                self.directory = path
                return
            except OSError as error:
                self.why = str(error)
                os.rmdir(path)

    def enter(self):
        """In the new process: it and all that it makes belong to the group."""
        _write(os.path.join(self.directory, "cgroup.procs"), str(os.getpid()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """After its processes have ended; the kernel needs a moment to see that."""
        for _attempt in range(100):
            try:
                if self.directory:
                    os.rmdir(self.directory)
                return
            except OSError:
                time.sleep(0.05)
