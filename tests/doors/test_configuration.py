#!/usr/bin/env python3
"""The options of both processes as an operator meets them: examples, files, flags, mistakes.

    test_configuration.py BIN
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.abspath(sys.argv.pop(1)) if len(sys.argv) > 1 else os.path.join(ROOT, "build/bin")
EX_USAGE, EX_UNAVAILABLE, EX_CONFIG = 64, 69, 78
NODES = "n1=tcp://127.0.0.1:7500,n2=tcp://127.0.0.1:7503"


def run(program, *arguments, **environment):
    """Exit code, standard output, standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DUET_")}
    done = subprocess.run([os.path.join(BIN, program), *arguments], capture_output=True, text=True,
                          timeout=60, env={**clean, **environment}, check=False)
    return done.returncode, done.stdout, done.stderr


def names(text):
    return re.findall(r"^(\w+) = ", text, re.M)


class Configuration(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.cluster = os.path.join(self.folder.name, "cluster.conf")
        code, out, err = run("duet-storage", "--found", "--nodes", NODES)
        self.assertEqual((code, err), (0, ""))
        with open(self.cluster, "w", encoding="utf-8") as file:
            file.write(out)
        self.storage = ["--cluster", self.cluster, "--name", "n1",
                        "--dir", os.path.join(self.folder.name, "n1")]

    def file(self, text):
        path = os.path.join(self.folder.name, "some.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_example_of_the_router_is_accepted_and_complete(self):
        path = os.path.join(ROOT, "deploy/duet-router.conf")
        code, out, err = run("duet-router", "--config", path, "--check-config")
        self.assertEqual((code, out), (0, "configuration OK\n"), err)
        dump = run("duet-router", "--dump-config")[1]
        with open(path, encoding="utf-8") as file:
            self.assertEqual(names(file.read()), [n for n in names(dump) if n != "config"])

    def test_example_of_the_node_is_accepted_and_complete(self):
        path = os.path.join(ROOT, "deploy/duet-storage.conf")
        code, out, err = run("duet-storage", "--config", path, "--cluster", self.cluster,
                             "--check-config")
        self.assertEqual((code, out), (0, "configuration OK\n"), err)
        dump = run("duet-storage", "--dump-config")[1]
        founding = {"nodes", "hosts", "weights", "partitions", "copies", "config"}
        with open(path, encoding="utf-8") as file:
            self.assertEqual(names(file.read()), [n for n in names(dump) if n not in founding])

    def test_examples_hold_the_defaults(self):
        for program in ("duet-router", "duet-storage"):
            path = os.path.join(ROOT, f"deploy/{program}.conf")
            dump = run(program, "--config", path, "--dump-config")[1]
            default = run(program, "--dump-config")[1]
            lines = {line.split(" # ")[0] for line in default.splitlines() if " = " in line}
            own = {"nodes", "name", "cluster", "dir", "config"}
            for line in dump.splitlines():
                if " = " in line and line.split(" = ")[0] not in own:
                    self.assertIn(line.split(" # ")[0], lines)

    def test_dump_is_read_back(self):
        dump = run("duet-router", "--nodes", "tcp://127.0.0.1:1", "--slots=77", "--dump-config")[1]
        again = run("duet-router", "--config", self.file(dump), "--dump-config")[1]
        self.assertIn("slots = 77 # file\n", again)
        self.assertIn('nodes = "tcp://127.0.0.1:1" # file\n', again)

    def test_what_is_dumped_is_a_configuration_file(self):
        router = self.file(run("duet-router", "--nodes", "tcp://127.0.0.1:7500", "--dump-config")[1])
        self.assertEqual(run("duet-router", "--config", router, "--check-config"),
                         (0, "configuration OK\n", ""))
        storage = self.file(run("duet-storage", *self.storage, "--dump-config")[1])
        self.assertEqual(run("duet-storage", "--config", storage, "--check-config"),
                         (0, "configuration OK\n", ""))

    def test_flag_beats_environment_beats_file(self):
        path = self.file("slots = 100\nattempt = 100\nsilence = 50\n")
        out = run("duet-router", "--config", path, "--slots", "300", "--dump-config",
                  DUET_ROUTER_SLOTS="200", DUET_ROUTER_ATTEMPT="200")[1]
        self.assertIn("slots = 300 # flag\n", out)
        self.assertIn("attempt = 200 # environment\n", out)
        self.assertIn("silence = 50 # file\n", out)

    def refused(self, code, words, *command, **environment):
        got, out, err = run(*command, **environment)
        self.assertEqual(got, code, err)
        self.assertIn(words, err)
        self.assertEqual(out, "")
        self.assertEqual(err.count("\n"), 1, err)

    def test_mistakes_are_named_in_one_line(self):
        for program in ("duet-router", "duet-storage"):
            self.refused(EX_USAGE, "did you mean log_level?", program, "--log-levl=1")
            self.refused(EX_USAGE, "takes a number from 0 to 3", program, "--log-level=4")
            self.refused(EX_USAGE, "needs a value", program, "--name")
            self.refused(EX_USAGE, "'extra' is not an option", program, "extra")
            self.refused(EX_CONFIG, "line 1 is not of the form", program, "--config",
                         self.file("log_level 1\n"))
            self.refused(EX_CONFIG, "did you mean log_level?", program, "--config",
                         self.file("log_leve = 1\n"))
        self.refused(EX_CONFIG, "did you mean slots?", "duet-router", DUET_ROUTER_SLOT="1")
        self.refused(EX_USAGE, "--dir is missing", "duet-storage", "--name", "n1")
        node = ["duet-storage", "--name", "n1", "--dir", os.path.join(self.folder.name, "n1")]
        self.refused(EX_USAGE, "--cluster is missing", *node)
        self.refused(EX_USAGE, "--listen is missing", *node, "--join", "tcp://127.0.0.1:7500")
        self.refused(EX_USAGE, "is not tcp://HOST:PORT", *node, "--listen", "tcp://127.0.0.1")
        self.refused(EX_USAGE, "is not tcp://HOST:PORT", *node, "--join", "127.0.0.1:7500")

    def test_missing_file_is_named(self):
        for program in ("duet-router", "duet-storage"):
            code, _, err = run(program, "--config", "/no/such.conf")
            self.assertNotEqual(code, 0)
            self.assertIn("/no/such.conf", err)

    def test_address_beyond_loopback_needs_a_word(self):
        listen = ["duet-router", "--nodes", "tcp://127.0.0.1:7500", "--listen", "tcp://0.0.0.0:7400"]
        code, _, err = run(*listen, "--check-config")
        self.assertNotEqual(code, 0)
        self.assertIn("insecure", err)
        code, out, err = run(*listen, "--check-config", "--insecure")
        self.assertEqual((code, out), (0, "configuration OK\n"), err)

    def test_port_in_use_is_named_with_what_to_do(self):
        with socket.socket() as busy:
            busy.bind(("127.0.0.1", 0))
            busy.listen()
            address = f"tcp://127.0.0.1:{busy.getsockname()[1]}"
            code, _, err = run("duet-router", "--nodes", "tcp://127.0.0.1:7500",
                               "--listen", address)
            self.assertEqual(code, EX_UNAVAILABLE, err)
            self.assertIn(f"cannot listen on '{address}': the address is in use", err)
            self.assertIn("choose another port", err)

    def test_address_that_the_machine_does_not_have_may_come(self):
        """A supervisor starts it again, unlike after a wrong configuration."""
        code, _, err = run("duet-router", "--nodes", "tcp://127.0.0.1:7500", "--insecure",
                           "--listen", "tcp://192.0.2.1:7400")
        self.assertEqual(code, EX_UNAVAILABLE, err)
        self.assertIn("no such address", err)

    def test_node_that_the_cluster_file_does_not_know_is_refused(self):
        code, _, err = run("duet-storage", *self.storage, "--name", "n9", "--check-config")
        self.assertEqual(code, EX_CONFIG)
        self.assertIn("no node 'n9'", err)

    def test_help_names_every_option(self):
        for program in ("duet-router", "duet-storage"):
            code, out, _ = run(program, "--help")
            self.assertEqual(code, 0)
            for name in names(run(program, "--dump-config")[1]):
                self.assertIn("--" + name.replace("_", "-"), out)


if __name__ == "__main__":
    unittest.main(verbosity=1)
