"""Reads by the caller's choice: while all is well the three kinds say the same; with two of the three
nodes dead, two of three voters and one copy of most partitions among them, nothing is linearizable any more,
and `any` still answers, and says so."""
import json

import scenario
from scenario import wait_for

KEYS = [f"key{i}" for i in range(60)]


def read(c, key, how, timeout=4000):
    """Exit code, and the answer as JSON."""
    done = c.duet("get", key, "--read", how, "-o", "json", "--timeout", str(timeout))
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def all_well(run, c):
    for key in KEYS:
        c.good("put", key, "of " + key)
    for how, says in (("linearizable", None), ("confirm", "confirm"), ("any", "any")):
        answers = [read(c, key, how) for key in KEYS[:12]]
        run.check(all(code == 0 and a["value"] == "of " + a["key"] and a.get("read") == says
                      for code, a in answers), f"{how}: the value, and the answer says how")
    code, answer = read(c, "none", "any")
    run.check(code == 1 and answer["read"] == "any", "any: no such key, and how that is known")
    done = c.duet("mget", *KEYS[:3], "--read", "any", "-o", "json")
    run.check([a.get("read") for a in json.loads(done.stdout)] == ["any"] * 3, "mget --read any")


def kept_at(c, name):
    """The keys that this node has a copy of."""
    where = {k: json.loads(c.good("where", k, "-o", "json")) for k in KEYS}
    return [k for k, w in where.items() if name in json.dumps(w)]


def main(run):
    with run.cluster() as c:
        c.start()
        all_well(run, c)
        here = kept_at(c, "n3")
        c.nodes[0].kill()
        c.nodes[1].kill()
        wait_for(lambda: read(c, here[0], "linearizable", 1000)[0] != 0, "leases run out")
        answers = {k: read(c, k, "any") for k in here}
        good = [k for k, (code, a) in answers.items()
                if code == 0 and a["value"] == "of " + k and a["read"] == "any"]
        run.check(len(here) > 20 and good == here,
                  f"any: {len(good)} of {len(here)} keys of the node that is left, and each says so")
        for how in ("linearizable", "confirm"):
            code, answer = read(c, here[0], how, 1500)
            run.check(code in (4, 5) and "value" not in answer, f"{how}: no answer ({code})")
        code = c.duet("put", here[0], "x", "--timeout", "1500").returncode
        run.check(code in (4, 5), f"and no write ({code})")
        for node in c.nodes[:2]:
            node.start()
        c.wait_serving()
        run.check(all(read(c, k, "confirm")[0] == 0 for k in here[:10]), "afterwards all is well")


scenario.run(main, __doc__)
