#!/usr/bin/env python3
"""The services: units as they are installed, judged by systemd's own tools, and the user that they
run as.

    test_units.py BUILD
"""
import glob
import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "process"))

from cluster import Cluster

BUILD = os.path.abspath(sys.argv.pop(1))
NAMES = ("duet-storage", "duet-router")
EXPOSURE_MAX = 20  # in tenths
# Files of /proc that need not be there. glibc's free() asks, when it gives the end of a thread's heap
# back, whether the kernel overcommits memory; without the file it takes the usual answer.
DONE_WITHOUT = {"/proc/sys/vm/overcommit_memory"}


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, check=False, env={**os.environ, "SYSTEMD_COLORS": "0"})


def settings(text):
    """{name: [values]}, without comments."""
    found = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        found.setdefault(name, []).append(value)
    return found


def system_calls(name):
    """Those of a group, @like-this, as systemd knows it; or the one itself."""
    if not name.startswith("@"):
        return {name}
    lines = run("systemd-analyze", "syscall-filter", name).stdout.split("\n")[1:]
    words = [line.strip() for line in lines if line.strip() and "#" not in line]
    return set().union(*map(system_calls, words))


def allowed_calls(unit):
    """What is left by the lines SystemCallFilter=, one after the other."""
    allowed = set()
    for line in unit["SystemCallFilter"]:
        named = set().union(*map(system_calls, line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


class Units(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="duet-units-")
        cls.addClassCleanup(folder.cleanup)
        cls.prefix = os.path.join(folder.name, "usr")
        done = run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        if done.returncode != 0:
            raise AssertionError(done.stdout)

    def unit(self, name):
        return os.path.join(self.prefix, "lib/systemd/system", name + "@.service")

    def text(self, name):
        with open(self.unit(name), encoding="utf-8") as file:
            return file.read()

    def test_systemd_understands_every_line(self):
        for name in NAMES:
            done = run("systemd-analyze", "verify", "--man=no", self.unit(name))
            self.assertEqual((done.returncode, done.stdout), (0, ""), name)

    def test_systemd_would_not_understand_a_mistake(self):
        """What the case above relies on."""
        path = os.path.join(self.prefix, "mistake@.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.text("duet-router").replace("ProtectHome=yes", "ProtectHom=yes"))
        self.assertIn("ProtectHom", run("systemd-analyze", "verify", "--man=no", path).stdout)

    def test_exposure_is_small(self):
        for name in NAMES:
            done = run("systemd-analyze", "security", "--offline=yes", "--no-pager",
                       f"--threshold={EXPOSURE_MAX}", self.unit(name))
            self.assertEqual(done.returncode, 0, done.stdout)

    def test_programs_are_those_that_were_installed(self):
        for name in NAMES:
            program = settings(self.text(name))["ExecStart"][0].split()[0]
            self.assertEqual(program, os.path.join(self.prefix, "sbin", name))
            self.assertTrue(os.access(program, os.X_OK))

    def test_units_say_what_the_programs_do(self):
        for name in NAMES:
            unit = settings(self.text(name))
            self.assertEqual(unit["Type"], ["notify"])
            self.assertEqual(unit["Restart"], ["always"])
            self.assertIn("WatchdogSec", unit)
            flags = set(re.findall(r"--([\w-]+)", unit["ExecStart"][0]))
            known = set(re.findall(r"^  --([\w-]+)", run(os.path.join(BUILD, "bin", name),
                                                         "--help").stdout, re.M))
            self.assertTrue(flags and flags <= known, flags - known)
            for code in unit["RestartPreventExitStatus"][0].split():
                self.assertIn(code, ("64", "78"))

    def traces(self):
        """{program: all system calls of a life with writes, reads, a crash and a recovery}, as text."""
        with Cluster(BUILD, routers=1) as c:
            for process in c.processes:
                trace = os.path.join(c.dir, process.name + ".calls")
                process.argv = ["strace", "-D", "-f", "-qq", "-A", "-o", trace, *process.argv]
            c.start()
            c.good("mput", "apple", "red", "pear", "green", "plum", "blue")
            c.good("mget", "apple", "pear", "plum")
            c.nodes[0].kill()
            c.nodes[0].start()
            c.wait_serving()
            text = {name: "" for name in NAMES}
            for process in c.processes:
                self.assertEqual(process.stop(), 0)
                with open(os.path.join(c.dir, process.name + ".calls"), encoding="utf-8") as file:
                    text["duet-router" if process in c.routers else "duet-storage"] += file.read()
        return text

    def test_hardening_allows_what_the_programs_do(self):
        for name, trace in self.traces().items():
            unit = settings(self.text(name))
            made = set(re.findall(r"^\d+ +(\w+)\(", trace, re.M))
            self.assertLess({"epoll_wait", "sched_setscheduler"}, made)
            self.assertEqual(made - allowed_calls(unit), set(), name)
            families = set(re.findall(r" socket\((AF_\w+)", trace))
            self.assertLessEqual(families, set(unit["RestrictAddressFamilies"][0].split()))
            self.assertNotRegex(trace, "PROT_WRITE[|]PROT_EXEC")  # MemoryDenyWriteExecute
            read = set(re.findall(r'open(?:at)?\([^"]*"(/proc/[^"]*)"', trace))
            self.assertLessEqual(read, DONE_WITHOUT, "ProcSubset=pid hides it")

    def test_example_fits_the_unit(self):
        """n1.conf as it comes: its folder is the one that the unit makes for duet-storage@n1."""
        with open(glob.glob(os.path.join(self.prefix, "share/doc/*/duet-storage.conf"))[0],
                  encoding="utf-8") as file:
            example = file.read()
        state = settings(self.text("duet-storage"))["StateDirectory"][0].replace("%i", "n1")
        self.assertIn(f'\ndir = "/var/lib/{state}"\n', example)
        self.assertIn('\nname = "n1"\n', example)

    def test_user_of_the_units_is_made(self):
        root = os.path.join(self.prefix, "root")
        os.makedirs(os.path.join(root, "etc"))
        done = run("systemd-sysusers", f"--root={root}",
                   os.path.join(self.prefix, "lib/sysusers.d/duet.conf"))
        self.assertEqual(done.returncode, 0, done.stdout)
        with open(os.path.join(root, "etc/passwd"), encoding="utf-8") as file:
            users = [line.split(":")[0] for line in file]
        for name in NAMES:
            unit = settings(self.text(name))
            self.assertEqual((unit["User"], unit["Group"]), (["duet"], ["duet"]))
        self.assertEqual(users, ["duet"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
