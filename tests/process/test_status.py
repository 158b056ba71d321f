"""status, explain, check and ping: of a cluster that is well, and of one that is not."""
import json
import re
import socket
import subprocess

import scenario
from cluster import wait_for
from terminal import Terminal


def seen(c, *words, width, environment=()):
    """What a command shows on a terminal of this width, and its exit code."""
    t = Terminal([c.program("duet"), "--routers", c.all_routers, *words], environment, width=width)
    code = t.finish("", raw=True)
    return t.text, code


def good(c, *words):
    """The output of a look at the cluster that finds it well. On a busy machine one look may find that
    a process has not answered in time: then there is another one."""
    return wait_for(lambda: (d := c.duet(*words)).returncode == 0 and d,
                    f"{' '.join(words)}: all is well").stdout.decode()


def seen_well(c, *words, **options):
    return wait_for(lambda: (s := seen(c, *words, **options))[1] == 0 and s,
                    f"{' '.join(words)}: all is well")


def widest(text):
    return max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", text).split("\n")))


def well(run, c):
    c.good("put", "{u1}:name", "ada")
    report = json.loads(good(c, "status", "-o", "json"))
    run.check(report["ok"] and report["problems"] == [] and
              report["cluster"]["partitions_writable"] == 1024 and
              all(n["up"] and n["routers_reaching"] == 2 for n in report["nodes"]),
              "status -o json: all is well")
    for width in (50, 80, 120):
        text, code = seen_well(c, "status", width=width)
        run.check(code == 0 and "all is well" in text and "3 of 3 up" in text and
                  "n1, n2, n3" in text and
                  re.search(r"\d reads/s", text) and
                  ("operations" in text.split("node ")[1]) == (width >= 80) and
                  widest(text) <= width, f"status on a terminal of {width} columns: fits, with rates")
    for words in (("help",), ("help", "bench"), ("help", "context"), ("explain", "k"),
                  ("get", "k", "--forse")):
        text, code = seen(c, *words, width=50)
        run.check(widest(text) <= 50 and len(text) > 60, f"{' '.join(words)} in 50 columns: fits")
    text, _ = seen_well(c, "status", width=80)
    plain, _ = seen_well(c, "status", width=80, environment={"NO_COLOR": "1"})
    run.check("\x1b[" in text and "\x1b[" not in plain and "\x1b" not in good(c, "status"),
              "colours on a terminal only, and not with NO_COLOR")


def explained(run, c):
    where = json.loads(c.good("where", "-o", "json", "{u1}:name"))
    e = json.loads(c.good("explain", "-o", "json", "{u1}:name"))
    version = json.loads(c.good("get", "-o", "json", "{u1}:name"))["version"]
    run.check(e["hash_tag"] == "u1" and e["digest"] == where["digest"] and
              e["partition"] == where["partition"] and e["primary"]["name"] == where["primary"] and
              [n["name"] for n in e["copies"]] ==
              [n for n in where["copies"] if n != where["primary"]] and
              e["primary"]["address"] in c.node_addresses and e["primary"]["up"],
              "explain agrees with where")
    run.check(e["read"]["version"] == version and e["read"]["size"] == 3 and
              sorted(e["said_by"]) == sorted(c.router_addresses),
              "explain reads the key and names the routers that say so")
    text = c.good("explain", "nothing").decode()
    run.check("none: there is no such key" in text and "2 of 2 routers say" in text,
              "explain of a key that is not there: exit code 0")


def checked(run, c):
    line = good(c, "check")
    run.check(re.fullmatch(r"DUET OK - all is well \| routers_down=0;;1;0;2 nodes_down=0;;1;0;3 "
                           r"partitions_writable=1024;;;0;1024 problems=0\n", line),
              "check: one line for Nagios")
    text = good(c, "check", "--format", "prometheus")
    values = dict(l.rsplit(" ", 1) for l in text.splitlines() if l[0] != "#")
    run.check(values["duet_check_well"] == "1" and
              values['duet_check_node_up{name="n1"}'] == "1" and
              values['duet_check_node_disk_full{name="n3"}'] == "0" and
              len([k for k in values if k.startswith("duet_check_router_up")]) == 2,
              "check --format prometheus")
    run.check(c.duet("check", "--format", "tsv").returncode == 2, "check --format tsv: wrong use")


def pinged(run, c):
    rows = json.loads(c.good("ping", "-o", "json", "--count", "20"))
    run.check([r["count"] for r in rows] == [20, 20] and
              all(0 < r["ms"] <= r["p99_ms"] <= r["max_ms"] for r in rows), "ping --count -o json")
    text = c.good("ping", "--histogram").decode()
    blocks = re.split(r"^tcp", text, flags=re.M)[1:]
    run.check(len(blocks) == 2 and
              all("1000 pings" in b and sum(int(n) for n in re.findall(r"ms +(\d+) +#", b)) == 1000
                  for b in blocks), "ping --histogram: the bars add up to the pings")


def ill(run, c):
    c.nodes[1].kill()
    c.routers[1].kill()
    done = wait_for(lambda: (d := c.duet("status")).returncode == 5 and b"n2" in
                    d.stdout.split(b"\n\n")[-1] and d, "status notices the missing node")
    ending = done.stdout.decode().split("\n\n")[-1]
    run.check("does not answer" in ending and "-> start it" in ending and
              "its keys have a copy less" in ending and c.router_addresses[1] in ending,
              "status names the node, the router, what follows and what to do")
    text, code = seen(c, "status", width=80)
    run.check(code == 5 and widest(text) <= 80, "in 80 columns it wraps")
    text, code = seen(c, "status", width=50)
    run.check(code == 5 and widest(text) <= 50 and "DOWN" in text, "in 50 columns, too")
    done = wait_for(lambda: (d := c.duet("check")).returncode == 1 and d,
                    "the other nodes take all writes")
    run.check(done.stdout.startswith(b"DUET WARNING - ") and
              b"nodes_down=1;;1;0;3" in done.stdout, "check: a warning, for nobody is refused")
    c.nodes[0].kill()
    done = wait_for(lambda: (d := c.duet("check")).returncode == 2 and
                    b"nodes_down=2" in d.stdout and d, "check notices the second missing node")
    run.check(done.stdout.startswith(b"DUET CRITICAL - "),
              "two of three are down: check is critical, for writes are refused")
    done = c.duet("check", "--format", "prometheus")
    run.check(done.returncode == 5 and b'duet_check_node_up{name="n2"} 0' in done.stdout,
              "check --format prometheus shows it")
    done = c.duet("ping", "--timeout", "300")
    run.check(done.returncode == 3 and done.stdout.count(b"does not answer") == 1,
              "ping: exit code 3, one does not answer")
    c.routers[1].start()
    c.nodes[0].start()
    c.nodes[1].start()
    c.wait_serving()


def elsewhere(run, c):
    """Addresses at which something else listens."""
    argv = [c.program("duet"), "--routers", c.node_addresses[0]]
    done = subprocess.run([*argv, "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.check(done.returncode == 3 and b"is a node, not a router" in done.stdout,
              "a node's address instead of a router's: status says so")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = subprocess.run([c.program("duet"), "--routers", f"127.0.0.1:{port}", "status",
                               "--timeout", "300"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        run.check(done.returncode == 3 and b"does not answer" in done.stdout,
                  "something else listens there: it does not answer")


def main(run):
    with run.cluster() as c:
        c.start()
        for part in (well, explained, checked, pinged, ill, elsewhere):
            part(run, c)


scenario.run(main, __doc__)
