"""Who votes changes under load: the witness moves to another node, and the old one is killed for
good. Then any one of the three that vote may die, and after its return any other: writes go on."""
import json
import os

import scenario
from scenario import Canary, Load, compare_copies, wait_for


def whole(c):
    """All partitions take writes and have all their copies, whoever else is gone."""
    s = c.status()
    return s and s["cluster"]["partitions_writable"] == 1024 and \
        s["cluster"]["partitions_lacking_copies"] == 0


def refused(run, c, code, words, *voters):
    done = c.duet("admin", "voters", ",".join(voters))
    run.check(done.returncode == code and words in b" ".join(done.stderr.split()),
              f"admin voters {','.join(voters)}: exit code {done.returncode}, "
              f"{done.stderr.decode().strip()}")


def move_witness(run, c):
    run.check(c.status()["cluster"]["voters"] == ["n1", "n2", "n3"], "the first three nodes vote")
    refused(run, c, 2, b"1, 3 or 5", "n1", "n2")
    refused(run, c, 2, b"no node 'n9'", "n1", "n2", "n9")
    refused(run, c, 2, b"named twice", "n1", "n2", "n2")
    c.nodes[3].kill()
    wait_for(lambda: not [n for n in c.status()["nodes"] if n["name"] == "n4"][0]["up"], "n4 is missed")
    refused(run, c, 5, b"n4 is not there", "n1", "n2", "n4")
    c.nodes[3].start()
    wait_for(lambda: c.duet("admin", "voters", "n1,n2,n4").returncode == 0, "n4 may vote", timeout=20)
    status = c.status()
    run.check(status["cluster"]["voters"] == ["n1", "n2", "n4"] and
              "voters_to_come" not in status["cluster"], "n4 votes in place of n3")
    said = json.loads(c.good("admin", "voters", "-o", "json", "n4,n1,n2"))
    run.check(sorted(said["voters"]) == ["n1", "n2", "n4"], "asking for what is: done at once")


def die_and_return(c, load, index):
    load.kill_under(c.nodes[index])
    wait_for(lambda: whole(c), "all is well but for n3")


def main(run):
    with run.cluster(nodes=4, found_flags=("--weights", "n3=0,n4=0")) as c:
        c.start()
        final = os.path.join(c.dir, "final")
        with Canary(c.dir) as canary, \
                Load(run, c, "--operations", "10000", "--rate", "2000", "--until-stop",
                     "--timeout", "10000", "--final", final) as load:
            load.wait_more(500)
            move_witness(run, c)
            c.nodes[2].kill()
            for index in (0, 1, 3, 1, 0):
                die_and_return(c, load, index)
            figures = load.finish(tell_slow=True)
        run.check(figures["still_not_done"] == 0 and
                  figures["still_ms_max"] < canary.allowed_ms(1000),
                  f"no read of a key that nobody changes took a second ({canary})")
        compare_copies(run, c, final)
        for node in (0, 1, 3):
            c.nodes[node].kill()
        for node in (0, 1, 3):
            c.nodes[node].start()
        wait_for(lambda: whole(c), "after the end of all they know who votes")
        run.check(c.status()["cluster"]["voters"] == ["n1", "n2", "n4"],
                  "power failure: those who voted vote")
        compare_copies(run, c, final)


scenario.run(main, __doc__)
