"""A node that comes back with another disk than it left with: an empty one, or an old image of its
own, from a clean stop. It must not answer from it: a refusal is right, "no such key" and old values
are wrong. With its own disk back, all is well."""
import os
import shutil
import time

import scenario

KEYS = [f"w{i}" for i in range(600)]


def write(c, value):
    c.good("mput", *[w for key in KEYS for w in (key, value)], "--timeout", "20000")


def answers(c):
    """(right, wrong) of what is heard for the keys whose value is "new"; refusals are neither."""
    done = c.duet("mget", *KEYS, "--timeout", "2000")
    lines = done.stdout.splitlines()
    right = sum(line.endswith(b"\tnew") for line in lines)
    return right, len(lines) - right + done.stderr.count(b"no such key")


def wrong_disk(run, c, what, fill):
    node, dir = c.nodes[0], os.path.join(c.dir, "n1")
    node.kill()
    os.rename(dir, dir + ".true")
    fill(dir)
    node.start()
    worst = 0
    for _ in range(4):  # just started, and later, when its peers have spoken to it
        right, wrong = answers(c)
        worst = max(worst, wrong)
        time.sleep(0.3)
    run.check(worst == 0, f"{what}: no wrong answer ({right} of {len(KEYS)} right, "
                          f"{worst} wrong at worst)")
    run.check(right >= len(KEYS) * 6 // 10, f"{what}: what others lead is read on")
    code = node.wait_exit()
    run.check(code != 0 and "start the node with its own" in node.output(),
              f"{what}: the node ends (exit code {code}) and says why")
    run.check(all(p.alive() for p in c.processes if p is not node), f"{what}: others live on")
    shutil.rmtree(dir)
    os.rename(dir + ".true", dir)
    node.start()
    c.wait_serving()
    run.check(answers(c) == (len(KEYS), 0), "its own disk again: all is well")


def main(run):
    with run.cluster() as c:
        c.start()
        write(c, "old")
        c.nodes[0].stop()
        image = os.path.join(c.dir, "image")
        shutil.copytree(os.path.join(c.dir, "n1"), image)
        c.nodes[0].start()
        c.wait_serving()
        write(c, "new")
        wrong_disk(run, c, "an empty disk", os.mkdir)
        wrong_disk(run, c, "an old image", lambda dir: shutil.copytree(image, dir))


scenario.run(main, __doc__)
