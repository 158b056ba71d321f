"""bench: it counts right, and the open loop tells of waiting that a closed loop leaves out."""
import json
import signal
import subprocess
import threading
import time

import scenario
from cluster import clean_environment


def bench(c, *flags, code=0):
    done = c.duet("bench", "-q", "-o", "json", *flags)
    if done.returncode != code:
        raise scenario.Failed(f"bench {flags}: {done.returncode} {done.stderr}")
    return json.loads(done.stdout)


def counted(run, c):
    r = bench(c, "--mix", "fill", "--keys", "3000", "-c", "7", "-p", "3", "--value-size", "10",
              "--value-size-max", "20", "--threads", "2")
    values = [json.loads(l)["value"] for l in
              c.good("export", "--format", "jsonl").decode().splitlines() if '"bench:' in l]
    run.check(r["operations"] == 3000 == r["latency_us"]["write"]["count"] and len(values) == 3000,
              "fill: each key once")
    run.check({len(v) for v in values} == set(range(10, 21)), "values of all sizes from 10 to 20")
    run.check(c.good("get", "bench:0000002999"), "keys of 16 bytes, numbered")
    r = bench(c, "--mix", "mixed", "--reads", "80", "-n", "5000", "--keys", "3000")
    reads = r["latency_us"]["read"]["count"]
    run.check(r["operations"] == 5000 and r["not_found"] == 0 and 0.77 < reads / 5000 < 0.83,
              "4 reads for each write, all of keys that are there")
    r = bench(c, "--mix", "read", "-n", "2000", "--keys", "3000000", "--distribution", "zipfian",
              "-c", "1")
    run.check(r["operations"] == 2000 and r["loop"] == "closed", "zipfian, one connection")
    q = r["latency_us"]["read"]
    run.check(0 < q["p50"] <= q["p90"] <= q["p99"] <= q["p999"] <= q["p9999"] <= q["max"],
              "percentiles ascend")


def paced(run, c):
    r = bench(c, "--mix", "read", "--rate", "500", "--seconds", "2", "--threads", "2", "--keys",
              "3000")
    run.check(r["loop"] == "open" and r["operations"] + r["behind"] == 1000,
              "open loop: as many operations as were due")
    r = bench(c, "--mix", "read", "--rate", "500", "-n", "100", "--keys", "3000")
    run.check(r["operations"] == 100 and r["seconds"] > 0.19, "open loop, a number of operations")
    r = bench(c, "--mix", "write", "--rate", "1000000", "-c", "1", "-p", "1", "--seconds", "1",
              "--keys", "3000")
    run.check(r["behind"] > 100000 and r["operations"] + r["behind"] == 1000000,
              "a rate that is too high: what had not even begun is told")


def omission(run, c):
    """The only router sleeps for a second of three: of what was due meanwhile nothing is left out."""
    found = {}
    for name, flags in (("closed", ()), ("open", ("--rate", "200"))):
        pause = threading.Timer(1.2, c.routers[0].pause)
        resume = threading.Timer(2.2, c.routers[0].resume)
        for t in (pause, resume):
            t.start()
        found[name] = bench(c, "--mix", "read", "-c", "1", "-p", "1" if name == "closed" else "300",
                            "--seconds", "3", "--keys", "3000", *flags)["latency_us"]["read"]
        for t in (pause, resume):
            t.join()
    run.check(found["open"]["p90"] > 300000 and found["open"]["max"] > 700000,
              f"open loop: a tenth of the operations waited for long ({found['open']['p90']:.0f} us)")
    run.check(found["closed"]["max"] > 700000 and
              found["closed"]["p99"] < found["open"]["p90"],
              f"closed loop: it was one ({found['closed']['p99']:.0f} us at 99 %)")


def stopped(run, c):
    argv = [c.program("duet"), "--routers", c.all_routers, "bench", "-q", "--seconds", "100", "--mix",
            "read"]
    p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=clean_environment())
    time.sleep(1.5)
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=30)
    run.check(p.returncode == 0 and b" operations in " in out, "^C ends it early, with figures")


def main(run):
    with run.cluster(routers=1) as c:
        c.start()
        for part in (counted, paced, omission, stopped):
            part(run, c)


scenario.run(main, __doc__)
