#!/usr/bin/env python3
"""Shows that tidy.py is green on a good tree and red on each kind of broken one."""
import os
import subprocess
import sys
import tempfile
import unittest

TIDY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tidy.py")

GOOD = {
    "CMakeLists.txt": "add_subdirectory(proto)\n",
    "README.md": "A tree.\n",
    ".clang-format": "",
    "client/duet.h": "int duet_put(void);\n",
    "client/calls.c": '#include "client/duet.h"\nint duet_put(void)\n{\n    return 1;\n}\n',
    "deploy/README.md": "How to.\n",
    "proto/CMakeLists.txt": "add_library(duet_proto STATIC # pure\n    codec.c\n    pages.c)\n",
    "proto/codec.h": '#include "proto/base/bytes.h"\nint codec_pack(int v);\n',
    "proto/codec.c": '#include "proto/codec.h"\n#include <stdio.h>\n'
                     "/* printf() may stand in a comment. */\n"
                     "static int twice(int v)\n{\n    return v * 2;\n}\n"
                     "int codec_pack(int v)\n{\n    char to[9];\n"
                     '    return snprintf(to, sizeof to, "printf(%d", twice(v));\n}\n',
    "proto/pages.h": "int pages_count(void);\n",
    "proto/pages.c": '#include "proto/pages.h"\nint pages_count(void)\n{\n    return 1;\n}\n',
    "proto/link.h": "void link_send(void);\n",
    "proto/link.c": '#include "proto/link.h"\n#include <zmq.h>\nvoid link_send(void)\n{\n}\n',
    "proto/base/bytes.h": "static inline int bytes_size(void)\n{\n    return 0;\n}\n",
    "router/lane.h": "struct lane {\n    int size;\n};\nvoid lanes_init(void);\n",
    "router/lane.c": '#include "router/lane.h"\nvoid lanes_init(void)\n{\n}\n',
    "router/main.c": '#include "proto/link.h"\n#include "router/lane.h"\n'
                     "static const int table[] = {\n    1,\n};\n"
                     "int main(void)\n{\n    return table[0];\n}\n",
    "storage/table.h": "int table_get(void);\n",
    "storage/table_lmdb.c": '#include "storage/table.h"\n#include <lmdb.h>\n'
                            "__attribute__((noinline)) int table_get(void)\n{\n    return 1;\n}\n",
    "tests/unit/test_x.c": '#include "proto/codec.h"\n#include "storage/table.h"\n'
                           "#include <zmq.h>\nint anything(void)\n{\n    return 1;\n}\n",
}


def run(tree):
    """tidy.py on this tree (@ROOT@ is where it lies): its exit code and what it printed."""
    with tempfile.TemporaryDirectory() as root:
        for path, text in tree.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text.replace("@ROOT@", root))
        done = subprocess.run([sys.executable, TIDY, root], capture_output=True, text=True,
                              check=False)
        return done.returncode, done.stdout + done.stderr


class Tidy(unittest.TestCase):
    def red(self, expected, tree):
        code, out = run(tree)
        self.assertEqual(code, 1, out)
        self.assertIn(expected, out)
        self.assertIn(" 1 findings", out)

    def added(self, path, text):
        return {**GOOD, path: GOOD[path] + text}

    def test_good_tree_is_green(self):
        code, out = run(GOOD)
        self.assertEqual(code, 0, out)
        self.assertIn("0 findings", out)

    def test_arrow_sideways(self):
        self.red("router/main.c:10: router may not include storage",
                      self.added("router/main.c", '#include "storage/table.h"\n'))

    def test_arrow_upwards_from_base(self):
        self.red("proto/base may not include proto",
                      self.added("proto/base/bytes.h", '#include "proto/limits.h"\n'))

    def test_arrow_upwards_from_proto(self):
        self.red("proto may not include client",
                      self.added("proto/link.c", '# include "client/duet.h"\n'))

    def test_arrow_into_tests(self):
        self.red("storage may not include tests",
                      self.added("storage/table_lmdb.c", '#include "tests/lib/x.h"\n'))

    def test_include_not_from_the_root(self):
        self.red('"table.h" is not written from the root',
                      self.added("storage/table_lmdb.c", '#include "table.h"\n'))

    def test_commented_include_is_none(self):
        code, out = run(self.added("router/main.c", '// #include "storage/table.h"\n'))
        self.assertEqual(code, 0, out)

    def test_own_header_not_first(self):
        tree = {**GOOD, "proto/pages.c": "#include <stdlib.h>\n" + GOOD["proto/pages.c"]}
        self.red('the first include is not "proto/pages.h"', tree)

    def test_pure_file_with_forbidden_header(self):
        for header in ("time.h", "pthread.h", "unistd.h", "czmq.h"):
            self.red(f"proto/codec.c:13: pure, but includes {header}",
                          self.added("proto/codec.c", f"#include <{header}>\n"))

    def test_pure_file_with_forbidden_header_at_the_end_of_a_way(self):
        tree = self.added("proto/pages.h", '#include "proto/link.h"\n')
        tree["proto/CMakeLists.txt"] = "add_library(duet_proto STATIC codec.c)\n"
        tree["proto/codec.c"] = GOOD["proto/codec.c"] + '#include "proto/pages.h"\n'
        self.red("pure, but includes proto/link.h through proto/pages.h", tree)

    def test_pure_file_that_prints(self):
        self.red("proto/codec.c:14: pure, but calls printf()",
                      self.added("proto/codec.c", 'static void say(void)\n{ printf("x"); }\n'))

    def test_source_of_a_pure_library(self):
        self.red("proto/pages.c:6: pure, but includes time.h",
                      self.added("proto/pages.c", "#include <time.h>\n"))

    def test_foreign_library_outside_its_file(self):
        self.red("<lmdb.h> is for storage/table_lmdb.c only",
                      self.added("router/lane.c", "#include <lmdb.h>\n"))

    def test_function_without_the_prefix_of_its_file(self):
        self.red("router/lane.c:5: send_all() does not begin with lane_",
                      self.added("router/lane.c", "void send_all(int a)\n{\n}\n"))

    def test_public_prefix_outside_the_client(self):
        self.red("duet_get() does not begin with lane_",
                      self.added("router/lane.c", "int duet_get(void)\n{\n    return 0;\n}\n"))

    def test_inline_function_in_a_header_without_prefix(self):
        self.red("size_of() does not begin with bytes_",
                      self.added("proto/base/bytes.h",
                                 "static inline int size_of(void)\n{\n    return 0;\n}\n"))

    def test_function_after_a_macro_call_without_semicolon(self):
        self.red("router/lane.c:6: send_all() does not begin with lane_",
                      self.added("router/lane.c", "MAP(X)\nvoid send_all(void)\n{\n}\n"))

    def test_function_of_71_lines(self):
        body = "    ;\n" * 67
        code, out = run(self.added("router/lane.c", f"static void f(void)\n{{\n{body}}}\n"))
        self.assertEqual(code, 0, out)
        self.red("router/lane.c:5: f() has 71 lines",
                      self.added("router/lane.c", f"static void f(void)\n{{\n{body}    ;\n}}\n"))

    def test_unfinished_work(self):
        for word in ("TO" + "DO", "FIX" + "ME"):
            self.red(f"deploy/README.md:2: {word}", self.added("deploy/README.md", word + "\n"))

    def test_link_to_nowhere(self):
        links = "[a](deploy/README.md#x) [b](https://example.org/) [c](proto)\n"
        code, out = run(self.added("README.md", links))
        self.assertEqual(code, 0, out)
        self.red("README.md:2: gone.md does not exist",
                 self.added("README.md", "[d](gone.md)\n"))

    def test_path_of_this_machine(self):
        self.red("proto/CMakeLists.txt:4: names the folder of this machine",
                 self.added("proto/CMakeLists.txt", "include_directories(@ROOT@/proto)\n"))

    def test_stranger_at_the_top(self):
        self.red("docs:1: does not belong at the top",
                      {**GOOD, "docs/x.md": ""})
        code, out = run({**GOOD, "build-asan/x.c": "#include <time.h>\n", ".ci/run": ""})
        self.assertEqual(code, 0, out)

    def test_missing_at_the_top(self):
        self.red("README.md:1: is missing", {p: t for p, t in GOOD.items()
                                                   if p != "README.md"})


if __name__ == "__main__":
    unittest.main(verbosity=1)
