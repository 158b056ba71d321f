"""Mixed load for minutes: the anonymous memory and the descriptors of every process at half time
and at the end. --long: ten minutes, and less than 5 % growth from the fifth to the tenth is
demanded; the short form shows the figures only. The same keys again and again, so that what grows is
a leak."""
import time

import scenario
from scenario import Load, wait_for

SECONDS, SECONDS_LONG = 20, 600
GROWTH_MAX = 1.05


def sample(c):
    return {p.name: (p.anonymous_kib(), p.descriptors()) for p in c.processes}


def wait_until(moment, bench):
    wait_for(lambda: time.monotonic() >= moment or bench.popen.poll() is not None, "the time",
             timeout=moment - time.monotonic() + 60, pause=0.2)


def bench(run, c, seconds, *flags):
    """`duet bench` in the background; its pipe is its only tie to us."""
    return scenario.Tool(run, c.program("duet"), "--routers", c.all_routers, "bench", "--seconds",
                         str(seconds), *flags)


def main(run):
    seconds = SECONDS_LONG if run.long else SECONDS
    # Checkpoints, segments and recycling take part, in the short form too.
    flags = ("--segment-size", "4", "--overlay-size", "8", "--overlay-entries", "20000",
             "--log-retention", "64")
    with run.cluster(node_flags=flags) as c:
        c.start()
        began = time.monotonic()
        with bench(run, c, seconds, "--mix", "mixed", "--keys", "50000", "--connections", "16",
                   "--pipeline", "16") as b, \
                Load(run, c, "--operations", "1000", "--rate", "1000", "--readers", "1",
                     "--timeout", "10000", "--until-stop") as load:
            wait_until(began + seconds / 2, b)
            half = sample(c)
            wait_until(began + seconds - 1, b)
            end = sample(c)
            run.check(b.finish() == 0, "bench ran to its end")
            load.finish()
        for line in b.lines[-12:]:
            print("         " + line)
        for name in half:
            (memory, files), (memory_end, files_end) = half[name], end[name]
            text = (f"{name}: anonymous memory {memory} -> {memory_end} KiB "
                    f"({memory_end / memory - 1:+.1%}), descriptors {files} -> {files_end}")
            if run.long:
                run.check(memory_end < GROWTH_MAX * memory and files_end <= files, text)
            else:
                run.say(text)
        run.check(c.duet("status").returncode == 0, "the cluster is well")


scenario.run(main, __doc__)
