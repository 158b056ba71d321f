"""Mistakes that people make with `duet`: each is told in one line that says what is wrong and what to
do, with its exit code, and with nothing on stdout."""
import os
import socket
import subprocess

import scenario
from cluster import clean_environment, free_ports, wait_for

LONG = "x" * 481

# What somebody did; the words; the exit code; what is wrong; what to do.
TABLE = [
    ("a command's name misspelt", ["gte", "s"], 2, "unknown command 'gte'", "did you mean 'get'?"),
    ("another store's command", ["SET", "s", "1"], 2, "unknown command 'SET'", "mean 'put'?"),
    ("a command that there is nowhere", ["frobnicate"], 2, "unknown command", "`duet help` lists"),
    ("a flag misspelt", ["put", "s", "1", "--if-absnt"], 2, "unknown flag", "mean --if-absent?"),
    ("an unknown flag", ["get", "s", "-x"], 2, "unknown flag '-x'", "`duet help COMMAND` lists"),
    ("a value that begins with a dash", ["put", "s", "-verbose"], 2, "unknown flag '-verbose'",
     "a word that begins with - stands behind --"),
    ("a flag of another command", ["get", "s", "--if-absent"], 2, "does not belong to 'get'",
     "`duet help get` lists the flags that do"),
    ("a flag without its value", ["get", "s", "--timeout"], 2, "needs a value (MS)",
     "how long one operation may take"),
    ("a flag's value that is no number", ["get", "s", "--timeout", "1s"], 2,
     "--timeout: '1s' is not a number", "write --timeout=MS"),
    ("a flag's value out of range", ["get", "s", "--timeout", "0"], 2, "0 is not in range",
     "it is 1 to 3600000 ms"),
    ("a word forgotten", ["put", "s"], 2, "too few words", "write: duet put KEY VALUE"),
    ("a value with blanks, without quotes", ["put", "s", "red", "and", "green"], 2,
     "too many words", "a word with blanks stands in quotes"),
    ("a value forgotten among many", ["mput", "a", "1", "b"], 2, "the last key has no value",
     "write: duet mput KEY VALUE [KEY VALUE]..."),
    ("an unknown output", ["get", "s", "-o", "xml"], 2, "'xml' is none of",
     "auto, table, json, jsonl, raw, hex"),
    ("an output that makes no sense there", ["status", "-o", "raw"], 2, "cannot print raw",
     "it prints: table, json, jsonl"),
    ("an empty key", ["get", ""], 2, "the key is empty", "a key has 1 to 480 bytes"),
    ("a key that is too long", ["get", LONG], 2, "longer than 480 bytes", "take a shorter one"),
    ("a binary key that is not hex", ["get", "0xff", "--key-format", "hex"], 2,
     "key '0xff' is not hex", "two digits for each byte, without 0x"),
    ("a binary key that is not base64", ["get", "a$", "--key-format", "base64"], 2,
     "key 'a$' is not base64", "`base64 -w0` writes it"),
    ("an increment that is no integer", ["incr", "n", "1.5"], 2, "'1.5' is not a 64-bit integer",
     "`duet add` takes decimal numbers"),
    ("an increment of what is no number", ["incr", "s"], 5, "the value is no integer",
     "`duet get` shows what is there"),
    ("an increment beyond the end", ["incr", "n", "9223372036854775807"], 5,
     "larger than is possible", "nothing changed; `duet add` has room"),
    ("an addition of what is no number", ["add", "n", "1e3"], 2, "'1e3' is not a decimal number",
     "one looks like -12.50"),
    ("a sum with too many digits", ["add", "n", "9" * 34], 5, "larger than is possible",
     "there is room for 34 digits"),
    ("an offset below 0", ["setrange", "s", "-1", "x"], 2, "OFFSET '-1' is not a number of bytes",
     "the first one is 0"),
    ("an offset far away", ["setrange", "s", "99999999999", "x"], 5, "larger than is possible",
     "value_size_max is the limit"),
    ("a negative time", ["put", "s", "1", "--ttl", "-5"], 2, "--ttl: '-5' is not a time",
     "more than 0 and looks like 500ms, 10s"),
    ("a time in words", ["expire", "s", "tomorrow"], 2, "TIME: 'tomorrow' is not a time",
     "more than 0 and looks like 500ms, 10s"),
    ("two times", ["put", "s", "1", "--ttl", "5s", "--keep-ttl"], 2, "give one of",
     "--ttl, --expire-at and --keep-ttl"),
    ("two conditions", ["put", "s", "1", "--if-absent", "--if-present"], 2, "not 2",
     "give one condition"),
    ("a version that is none", ["put", "s", "1", "--if-version", "12"], 2, "'12' is not a version",
     "one looks like 4.17"),
    ("an old version", ["put", "s", "1", "--if-version", "9.9"], 6, "does not hold",
     "`duet get -o table` shows the key's version"),
    ("a value that was expected", ["cas", "s", "red", "green"], 6, "does not hold",
     "the value is 'text'"),
    ("an expiry that was expected", ["expire", "s", "5s", "--if-expiry"], 6, "does not hold",
     "`duet ttl` shows the key's expiry"),
    ("a blank in a key", ["get", "s "], 1, "no such key", "'s '"),
    ("a file that is not there", ["import", "/nonexistent"], 2, "'/nonexistent'",
     "No such file"),
    ("an unknown context", ["get", "s", "--context", "prod"], 2, "there is no context 'prod'",
     "`duet context list` shows those that are"),
    ("a context without its name", ["context", "use"], 2, "write:", "duet context use NAME"),
    ("an unknown action", ["context", "select", "x"], 2, "'select' is none of list, add, use",
     "`duet help context` tells more"),
    ("routers without a port", ["--routers", "localhost", "get", "s"], 2, "has no port",
     "write it like tcp://127.0.0.1:7400"),
    ("another protocol's address", ["--routers", "http://h:1", "get", "s"], 2, "not an address",
     "write tcp://HOST:PORT"),
    ("too many connections", ["bench", "-c", "99999"], 2, "--connections: 99999", "1 to 4000"),
]


def duet(c, *words, stdin=b"", **environment):
    own = {**clean_environment(), "XDG_CONFIG_HOME": os.path.join(c.dir, "config"),
           "DUET_ROUTERS": c.all_routers, **environment}
    return subprocess.run([c.program("duet"), *words], input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, env=own)


def told(run, what, done, code, *parts):
    """The one line that every mistake deserves."""
    text = done.stderr.decode(errors="replace")
    good = (done.returncode == code and done.stdout == b"" and text.startswith("duet: ") and
            text.count("\n") == 1 and text.endswith("\n") and all(p in text for p in parts))
    run.check(good, what + ("" if good else f": {done.returncode}, {done.stdout!r}, {text!r}"))


def the_table(run, c):
    c.good("put", "s", "text")
    c.good("put", "n", "5")
    for what, words, code, *parts in TABLE:
        told(run, what, duet(c, *words), code, *parts)
    run.check(c.good("mget", "s", "n") == b"s\ttext\nn\t5\n", "and none of these changed anything")


def values(run, c):
    told(run, "a value larger than the nodes take", duet(c, "put", "s", "-", stdin=b"x" * 2_000_000), 2,
         "too large", "values of up to 1048576")
    told(run, "a value larger than is possible", duet(c, "put", "s", "-", stdin=b"x" * 17_000_000), 2,
         "larger than 16777216 bytes", "spread it over several keys")


def scripts(run, c):
    """Lines of a script or of the interactive mode."""
    told(run, "a quote that is not closed", duet(c, stdin=b"put a 'red\n"), 2, "line 1: a ' is not closed",
         "where the sign itself is meant, write \\'")
    told(run, "a backslash at the end", duet(c, stdin=b"\nput a b\\"), 2, "line 2: a backslash",
         "write two")
    told(run, "a key with a zero byte", duet(c, stdin=b"get a\0b\n"), 2, "line 1: a line with a zero byte",
         "--key-format")
    told(run, "a value from a script's own stdin", duet(c, stdin=b"put a -\n"), 2, "line 1: stdin",
         "where the commands come from")


def addresses(run, c):
    nobody = f"tcp://127.0.0.1:{free_ports(1)}"
    quick = ("get", "s", "--timeout", "300")
    told(run, "a wrong port", duet(c, "--routers", nobody, *quick), 3, f"no router answers at {nobody}",
         "is one running there, and is the address right?")
    told(run, "a wrong port in the environment", duet(c, *quick, DUET_ROUTERS=nobody), 3, nobody,
         "the address is given by DUET_ROUTERS")
    duet(c, "context", "add", "old", nobody)
    told(run, "a wrong port in a context", duet(c, "--context", "old", *quick), 3, nobody,
         "the address is that of context 'old'")
    told(run, "an address of the environment without a port", duet(c, *quick, DUET_ROUTERS="db"), 2,
         "'db' has no port", "the address is given by DUET_ROUTERS")
    done = duet(c, "--routers", c.node_addresses[0], *quick)
    told(run, "a node's address", done, *((3, "a node does not take this", "is that a router's address?")
                                          if done.returncode == 3 else
                                          (4, "no answer", "`duet status` tells what does not answer")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        told(run, "another service's port", duet(c, "--routers", f"127.0.0.1:{server.getsockname()[1]}",
                                                 *quick), 3, "no router answers", "address right?")


def processes(run, c):
    def refused():
        done = duet(c, "put", "s", "2", "--timeout", "300")
        return done if done.returncode != 0 and b"in doubt" not in done.stderr else None

    holder = c.good("where", "s").split(b"primary")[1].split()[0].decode()
    node = next(n for n in c.nodes if n.name == holder)
    node.kill()
    done = wait_for(refused, "a write is refused, for a copy is missing")
    told(run, "a write while a node is down", done, done.returncode, "`duet status`")
    run.check(done.returncode in (4, 5), "its exit code is that of a timeout or of the server")
    for r in c.routers:
        r.kill()
    told(run, "no router runs any more", duet(c, "get", "s", "--timeout", "300"), 3, "no router answers",
         "is one running there")


def main(run):
    with run.cluster() as c:
        c.start()
        for part in (the_table, values, scripts, addresses, processes):
            part(run, c)


scenario.run(main, __doc__)
