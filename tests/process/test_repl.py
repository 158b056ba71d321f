"""The interactive mode behind a pseudo-terminal, and scripts on stdin."""
import os
import stat

import scenario
from terminal import PROMPT, Terminal


def open_terminal(c, *words, **environment):
    environment.setdefault("XDG_STATE_HOME", os.path.join(c.dir, "state"))
    argv = [c.program("duet"), "--routers", c.all_routers, *words]
    t = Terminal(argv, environment)
    t.greeting = t.wait(PROMPT)
    return t


def a_person(run, c):
    os.makedirs(os.path.join(c.dir, "state"))
    t = open_terminal(c)
    run.check("connected to tcp://" in t.greeting and "help lists the commands" in t.greeting,
              "it says what it is connected to and how to get help")
    run.check(t.line("put apple 'red and green'").startswith("ok "), "put, with quotes")
    run.check(t.line("get apple") == "red and green\n", "get")
    run.check("did you mean 'get'" in t.line("gte apple") and
              "too few words; write: duet get KEY" in t.line("get") and
              t.line("incr n") == "1\n", "mistakes are told and do not end it")
    run.check("is not closed" in t.line("put a 'b"), "a quote that is not closed")
    run.check('"value": "red and green"' in t.line("duet get apple -o json"),
              "a line of a shell is understood")
    t.send("\x1b[A")  # up
    t.wait("duet get apple -o json")
    t.send("\x03")
    run.check(t.wait(PROMPT).startswith("^C"), "^C drops the line")
    t.send("put apple x\x15")  # ^U
    run.check(t.line("get apple") == "red and green\n", "^U clears the line")
    t.send("put pear -\r")
    t.wait("ends it\n")
    t.send("yellow\n\x04")
    run.check("ok " in t.wait(PROMPT) and t.line("get pear") == "yellow\n\n",
              "a value typed on the terminal, ended by ^D")
    run.check(t.finish("quit\r") == 0, "quit: exit code 0")


def history(run, c):
    path = os.path.join(c.dir, "state", "duet", "history")
    run.check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the history is for its owner only")
    t = open_terminal(c)
    t.send("\x1b[A\x1b[A\x1b[A")
    t.wait("put pear")
    t.send("\x03")
    t.wait(PROMPT)
    run.check(t.finish("\x04") == 0, "the lines of the last time are there; ^D ends: exit code 0")
    home = os.path.join(c.dir, "home")
    os.makedirs(home)
    t = open_terminal(c, XDG_STATE_HOME="", HOME=home)
    t.line("get apple")
    t.finish("exit\r")
    with open(os.path.join(home, ".duet_history"), encoding="utf-8") as file:
        run.check("get" in file.read(), "without XDG_STATE_HOME it lies in the home folder")


def flags(run, c):
    t = open_terminal(c, "-o", "hex", "repl")
    run.check(t.line("get apple").startswith("726564") and t.line("get apple -o raw").startswith("red"),
              "flags of the program's line hold for all commands, those of a line for it alone")
    run.check("reads commands already" in t.line("repl") or "already" in t.line("repl"),
              "no interactive mode inside of it")
    t.finish("quit\r")


def scripts(run, c):
    done = c.duet(stdin=b"# fruit\nput fig 'a b'\n\nget fig\nget nothing\nincr fig\nget fig\nquit\nget no\n")
    run.check(done.stdout.endswith(b"a ba b") and done.returncode == 5 and
              b"line 5: no such key" in done.stderr and b"line 6: " in done.stderr and
              b"line 9" not in done.stderr,
              "a script goes on after failures, names their lines, ends at quit with the last code")
    run.check(c.duet(stdin=b"get fig\n").returncode == 0 and c.duet(stdin=b"").returncode == 0,
              "a script without failures: exit code 0")
    done = c.duet(stdin=b"put fig -\nimport\nget fig")
    run.check(done.returncode == 2 and done.stderr.count(b"nothing else can be read") == 2 and
              done.stdout == b"a b", "a value from stdin cannot be had in a script; the last line "
                                     "needs no newline")
    done = c.duet("-q", stdin=b"put \xc3\xa4 \xff\xfe\nget \xc3\xa4\n")
    run.check(done.stdout == b"\xff\xfe", "any bytes but zero may stand in a script")


def main(run):
    with run.cluster(nodes=2, routers=1) as c:
        c.start()
        for part in (a_person, history, flags, scripts):
            part(run, c)
        c.routers[0].kill()
        t = open_terminal(c)
        run.check("no router answers" in t.greeting, "no router: it says so and goes on")
        run.check("no router" in t.line("get apple --timeout 300"), "and so does every command")
        c.routers[0].start()
        c.wait_serving()
        run.check(t.line("get apple") == "red and green\n", "once there is one, it works")
        t.finish("quit\r")


scenario.run(main, __doc__)
