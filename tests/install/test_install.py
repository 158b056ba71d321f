#!/usr/bin/env python3
"""Install into an empty folder, build a project of somebody else from it, and run that against three
nodes and two routers.

    test_install.py BUILD
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "process"))

from cluster import Cluster, clean_environment

DOWNSTREAM = os.path.join(HERE, "downstream")
FILES = {
    "bin/duet", "sbin/duet-router", "sbin/duet-storage", "include/duet.h", "LIB/libduet.a",
    "LIB/libduet.so", "LIB/libduet.so.0", "LIB/libduet.so.VERSION", "LIB/pkgconfig/duet.pc",
    "LIB/cmake/Duet/DuetConfig.cmake", "LIB/cmake/Duet/DuetConfigVersion.cmake",
    "share/man/man3/duet.3", "share/man/man8/duet-router.8", "share/man/man8/duet-storage.8",
    "lib/systemd/system/duet-storage@.service", "lib/systemd/system/duet-router@.service",
    "lib/sysusers.d/duet.conf", "share/doc/duet/duet-storage.conf", "share/doc/duet/duet-router.conf",
    "LIB/cmake/Duet/DuetTargets.cmake", "LIB/cmake/Duet/DuetTargets-release.cmake",
}


class Install:
    def __init__(self, build, folder):
        self.build, self.folder = os.path.abspath(build), folder
        self.prefix = os.path.join(folder, "moved here")  # a blank, and not where CMake put it
        self.passed = self.failed = 0
        self.programs = []

    def check(self, good, what):
        print(f"{'ok     ' if good else 'FAILED '}{what}", flush=True)
        self.passed += bool(good)
        self.failed += not good
        return bool(good)

    def run(self, *argv, **environment):
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=300, check=False, cwd=self.folder,
                              env={**clean_environment(), **environment})
        return done.returncode, done.stdout

    def good(self, *argv, **environment):
        code, out = self.run(*argv, **environment)
        if not self.check(code == 0, " ".join(os.path.relpath(a, self.folder) if "/" in a and
                                              a.startswith(self.folder) else a for a in argv)):
            print(out)
        return out

    def install(self):
        first = os.path.join(self.folder, "first")
        self.good("cmake", "--install", self.build, "--prefix", first)
        os.rename(first, self.prefix)
        found = {os.path.relpath(os.path.join(at, f), self.prefix)
                 for at, _, files in os.walk(self.prefix) for f in files}
        so = next(f for f in found if f.endswith("libduet.so"))
        self.lib = os.path.join(self.prefix, os.path.dirname(so))
        self.version = re.search(r"project\(duet VERSION ([\d.]+)",
                                 open(os.path.join(os.path.dirname(os.path.dirname(HERE)),
                                                   "CMakeLists.txt"), encoding="utf-8").read())[1]
        expected = {f.replace("LIB", os.path.dirname(so)).replace("VERSION", self.version)
                    for f in FILES}
        self.check(expected <= found, f"{len(found)} files; missing: {sorted(expected - found)}")

    def library(self):
        so = os.path.join(self.lib, "libduet.so")
        _, out = self.run("nm", "-D", "--defined-only", so)
        names = {line.split()[2].split("@")[0] for line in out.splitlines()
                 if line.split()[1] != "A"}
        with open(os.path.join(self.prefix, "include/duet.h"), encoding="utf-8") as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
        declared = set(re.findall(r"DUET_API[^;(]*?(duet_\w+)\(", text))
        self.check(names == declared and len(names) > 30,
                   f"{len(names)} symbols, just what duet.h declares; differ: {names ^ declared}")
        _, out = self.run("readelf", "-d", so)
        self.check("soname: [libduet.so.0]" in out, "the soname is libduet.so.0")
        needed = set(re.findall(r"NEEDED.*\[([\w-]+)", out))
        self.check(needed <= {"libzmq", "libprotobuf-c", "libc", "ld-linux-x86-64"},
                   f"it needs {', '.join(sorted(needed))}")

    def compiled(self, name):
        self.programs.append(os.path.join(self.folder, name))
        return self.programs[-1]

    def pkg_config(self):
        found = {"PKG_CONFIG_PATH": os.path.join(self.lib, "pkgconfig")}
        _, version = self.run("pkg-config", "--modversion", "duet", **found)
        self.check(version.strip() == self.version, f"pkg-config finds {version.strip()}")
        for compiler, source in (("cc", "main.c"), ("c++", "main.cpp")):
            program = self.compiled("pkg_" + source.replace(".", "_"))
            code, out = self.run("sh", "-ec", 'eval "$1 -Wall -Wextra -Werror \'$2\' -o \'$3\' '
                                 '$(pkg-config --cflags --libs duet)"', "sh", compiler,
                                 os.path.join(DOWNSTREAM, source), program, **found)
            self.check(code == 0, f"{source} with pkg-config {out}")
        program = self.compiled("with_archive")
        code, out = self.run("cc", os.path.join(DOWNSTREAM, "main.c"), "-o", program, "-I",
                             os.path.join(self.prefix, "include"),
                             os.path.join(self.lib, "libduet.a"), "-lzmq", "-lprotobuf-c",
                             "-lpthread")
        self.check(code == 0, f"main.c with libduet.a {out}")

    def find_package(self):
        to = os.path.join(self.folder, "downstream")
        self.good("cmake", "-S", DOWNSTREAM, "-B", to, f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.good("cmake", "--build", to)
        for name in ("from_c", "from_c_static", "from_cxx"):
            self.compiled(os.path.join("downstream", name))
        newer = os.path.join(self.folder, "newer")
        shutil.copytree(DOWNSTREAM, newer)
        path = os.path.join(newer, "CMakeLists.txt")
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("Duet 0.1 ", "Duet 0.2 "))
        code, out = self.run("cmake", "-S", newer, "-B", newer + "-build",
                             f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.check(code != 0 and f"version: {self.version}" in out,
                   "who asks for a newer version is told which one is there")

    def use(self):
        with Cluster(self.build) as cluster:
            cluster.start()
            for program in self.programs:
                _, out = self.run(program, DUET_ROUTERS=cluster.all_routers,
                                  LD_LIBRARY_PATH=self.lib)
                self.check(out == f"{self.version} counted\n",
                           f"{os.path.relpath(program, self.folder)}: {out.strip()}")
            count = cluster.good("get", "downstream")
            self.check(count == str(len(self.programs)).encode(),
                       f"{count.decode()} increments of {len(self.programs)} programs")


def main():
    with tempfile.TemporaryDirectory(prefix="duet-install-") as folder:
        install = Install(sys.argv[1], folder)
        for part in (install.install, install.library, install.pkg_config, install.find_package,
                     install.use):
            part()
    print(f"{install.passed} passed, {install.failed} failed")
    return 1 if install.failed > 0 else 0


sys.exit(main())
