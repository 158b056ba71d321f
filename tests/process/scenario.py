"""Scenario: what every test_*.py of this directory shares: arguments, checks, the closing line.

    import scenario

    def main(run):
        with run.cluster() as c:
            c.start()
            run.check(c.good("get", "apple") == b"red", "what was put can be read")

    scenario.run(main, __doc__)

    python3 tests/process/test_NAME.py BUILD-DIRECTORY [--long]
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

from cluster import Cluster, Failed, _die_with_parent, clean_environment, wait_for


class Run:
    def __init__(self, build, long):
        self.build, self.long = build, long
        self.passed = self.failed = 0
        self.began = time.monotonic()

    def check(self, good, what):
        if good:
            self.passed += 1
        else:
            self.failed += 1
        print(f"{time.monotonic() - self.began:7.2f}  {'ok     ' if good else 'FAILED '}{what}",
              flush=True)
        return bool(good)

    def say(self, what):
        print(f"{time.monotonic() - self.began:7.2f}  {what}", flush=True)

    def skip(self, what):
        self.say(f"skipped: {what}")

    def cluster(self, **options):
        return Cluster(self.build, **options)

    def program(self, name):
        return os.path.join(os.path.abspath(self.build), "bin", name)


class Canary:
    """How long the machine itself made a program wait while a test ran: a sleep that ends late, a
    write of a page that is slow to reach the disk. What a test says about time is said on top of
    that, for machines are shared and disks stall."""

    CALM_MS = 20  # a machine on which sleeps end later has no time for its programs

    def __init__(self, dir):
        self.slept_ms = self.synced_ms = 0.0
        self.hectic = time.monotonic()  # when it was last not calm
        self.ended = threading.Event()
        self.file = os.open(os.path.join(dir, "canary"), os.O_CREAT | os.O_WRONLY, 0o600)
        self.threads = [threading.Thread(target=t) for t in (self._sleep, self._sync)]

    def _sleep(self):
        # As nodes and routers are scheduled; for this thread alone.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        while not self.ended.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            late_ms = 1000 * (time.monotonic() - began) - 10
            self.slept_ms = max(self.slept_ms, late_ms)
            if late_ms > self.CALM_MS:
                self.hectic = time.monotonic()

    def _sync(self):
        while not self.ended.wait(0.05):
            began = time.monotonic()
            os.pwrite(self.file, b"x" * 4096, 0)
            os.fdatasync(self.file)
            self.synced_ms = max(self.synced_ms, 1000 * (time.monotonic() - began))

    def allowed_ms(self, limit_ms):
        return limit_ms + self.slept_ms + self.synced_ms

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for t in self.threads:
            t.join()
        os.close(self.file)

    def __str__(self):
        return f"the machine's own: sleep {self.slept_ms:.0f} ms, sync {self.synced_ms:.0f} ms"


class Tool:
    """A program of this directory that prints "at N ..." while it works, until its stdin ends."""

    def __init__(self, run, *argv):
        self.run, self.last, self.lines = run, (0, 0, 0), []
        self.name = os.path.basename(argv[0])
        self.popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", preexec_fn=_die_with_parent, env=clean_environment())
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.popen.stdout:
            words = line.split()
            if len(words) > 1 and words[0] == "at" and all(w.isdigit() for w in words[1:]):
                self.last = tuple(int(w) for w in words[1:])
            else:
                self.lines.append(line.rstrip("\n"))

    def alive(self):
        """True; ended before its time: a failure."""
        if self.popen.poll() is not None:
            self.reader.join()
            print("\n".join(self.lines[-60:]))
            raise Failed(f"{self.name} ended with exit code {self.popen.returncode}")
        return True

    def _wait(self, which, count, what, timeout):
        """Until so many more of what stands at this place of its "at" line."""
        target = self.last[which] + count
        wait_for(lambda: self.alive() and self.last[which] >= target, f"{count} more {what}",
                 timeout)

    def wait_more(self, count, timeout=120):
        self._wait(0, count, f"operations of {self.name}", timeout)

    def _finish(self, timeout):
        try:
            self.popen.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise Failed(f"{self.name} did not end within {timeout} s") from None
        self.reader.join()

    def finish(self, timeout=120):
        """Let it end; its exit code."""
        self._finish(timeout)
        return self.popen.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Reread(Tool):
    """tests/process/reread.c at work; see there."""

    def __init__(self, run, cluster, listing):
        super().__init__(run, run.program("reread"), cluster.all_routers, listing)

    def finish(self, what, timeout=120):
        """Returns how many ms the slowest read took."""
        self._finish(timeout)
        last = self.lines[-1] if self.lines else "nothing"
        self.run.check(self.popen.returncode == 0, f"{what}: {last}")
        return int(last.split("slowest ")[1].split()[0]) if "slowest " in last else 1 << 30


class Load(Tool):
    """tests/process/load.c at work; see there."""

    def __init__(self, run, cluster, *flags, routers=None):
        super().__init__(run, run.program("load"), "--routers", routers or cluster.all_routers,
                         *flags)

    @property
    def operations(self):
        return self.last[0]

    @property
    def reads(self):
        return self.last[1]

    @property
    def writes(self):
        return self.last[2]

    def wait_writes(self, count, timeout=60):
        self._wait(2, count, "acknowledged writes", timeout)

    def wait_reads(self, count, timeout=60):
        self._wait(1, count, "answered reads", timeout)

    def finish(self, timeout=400, tell_slow=False):
        """Let it end; its own checks count as ours. Returns its figures."""
        self._finish(timeout)
        figures = {}
        for line in self.lines:
            if line.startswith("figures "):
                figures = json.loads(line[len("figures "):])
                continue
            if line.startswith("ok    ") or line.startswith("FAILED "):
                self.run.check(line.startswith("ok"), "load: " + line[7:])
            elif not line.endswith(" failed") and (tell_slow or not line.startswith("slow: ")):
                print("         load: " + line)
        if not figures:
            raise Failed(f"load ended with exit code {self.popen.returncode} and without figures")
        writes = figures["writes"] + figures["writes_not_done"] + figures["in_doubt"]
        self.run.say(f"{figures['operations']} operations in {figures['seconds']} s, "
                     f"{figures['in_doubt']} of {writes} writes in doubt "
                     f"({figures['settled_done']} done, {figures['settled_aborted']} not, "
                     f"{figures['unsettled']} unsettled)")
        self.run.say(f"longest time without an acknowledged write {figures['write_gap_ms']} ms, "
                     f"without an answered read {figures['read_gap_ms']} ms; slowest of "
                     f"{figures['still_reads']} reads of keys that nobody changes "
                     f"{figures['still_ms_max']} ms, {figures['still_not_done']} without answer")
        return figures

    def kill_under(self, node):
        """Kill a node while this works, see that it goes on, and start it again."""
        self.wait_more(500)
        node.kill()
        self.wait_writes(500)
        self.wait_reads(500)
        self.run.check(True, f"{node.name} killed: reads and writes go on")
        node.start()


def compare_copies(run, cluster, listing):
    """Every key of the listing, read from each node that has a copy; see copies.c."""
    done = subprocess.run([run.program("copies"), cluster.cluster_file, listing],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=clean_environment())
    lines = done.stdout.strip().splitlines()
    for line in lines[:-1][:20]:
        print("         " + line)
    run.check(done.returncode == 0, "copies: " + (lines[-1] if lines else "nothing"))


def run(main, doc):
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="the build directory")
    parser.add_argument("--long", action="store_true", help="the full form")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    r = Run(arguments.build, arguments.long or bool(os.environ.get("DUET_TEST_LONG")))
    try:
        main(r)
    except Exception as error:  # every failure is told and counted
        if not isinstance(error, Failed):
            traceback.print_exc()
        r.check(False, f"{type(error).__name__}: {error}")
    print(f"{r.passed} passed, {r.failed} failed", flush=True)
    sys.exit(0 if r.failed == 0 and r.passed > 0 else 1)
