"""A table four times larger than the memory that its node may use: cold keys are read by threads, and
heartbeats and writes keep their pace. First a table that fits, for comparison in the same run, then the
large one. The memory is what --memory says; --long: each node is in a control group that has no more,
so that the table must come from the disk again and again."""
import contextlib
import json

import scenario
import zmtp
from memory_limit import MemoryLimit
from scenario import Canary

VALUE = 16384
COPIES, NODES = 2, 3
PACE_MAX = 4  # times the p99 of writes over the table that fits


def counters(address):
    with zmtp.Dealer(address) as d:
        kind, fields = d.ask(zmtp.frame(zmtp.STATUS_REQUEST))
    assert kind == zmtp.STATUS
    return dict(zip((name.decode() for name in fields[3]), zmtp.numbers(fields, 4)))


def total(c, *names):
    return sum(sum(counters(a)[name] for name in names) for a in c.node_addresses)


def bench(c, *flags):
    return json.loads(c.good("bench", "--value-size", str(VALUE), "--connections", "8",
                             "--pipeline", "4", "-o", "json", *flags, timeout=1200))


def pace(run, c, keys, seconds, what):
    """p99 of writes, and of reads, in ms, at an even rate, beside reads of all keys."""
    with Canary(c.dir) as canary:
        done = bench(c, "--mix", "mixed", "--reads", "70", "--rate", "400", "--keys", str(keys),
                     "--seconds", str(seconds))
    write_ms, read_ms = (done["latency_us"][x]["p99"] / 1000 for x in ("write", "read"))
    run.say(f"{what}: p99 of writes {write_ms:.1f} ms, of reads {read_ms:.1f} ms; {canary}")
    run.check(done["failed"] == 0 and done["in_doubt"] == 0 and done["not_found"] == 0,
              f"{what}: each of {done['operations']} operations was done")
    return write_ms, canary


def fill(run, c, keys):
    done = bench(c, "--mix", "fill", "--keys", str(keys), "--operations", str(keys))
    run.say(f"{keys} keys of {VALUE} bytes in {done['seconds']:.1f} s")


def measure(run, c, memory_mib, seconds):
    keys = 4 * (memory_mib << 20) * NODES // COPIES // VALUE
    few = keys // 16
    fill(run, c, few)
    small_ms, small = pace(run, c, few, seconds, "a table that fits")
    missing = total(c, "takeovers", "left_out")
    fetches = total(c, "fetches")
    fill(run, c, keys)
    large_ms, large = pace(run, c, keys, seconds, f"a table of {4 * memory_mib} MiB for each node")
    noise_ms = small.allowed_ms(0) + large.allowed_ms(0)
    run.check(large_ms <= PACE_MAX * small_ms + noise_ms,
              f"writes keep their pace: {large_ms:.1f} ms, at most {PACE_MAX} x {small_ms:.1f} ms "
              f"and what the machine took, {noise_ms:.0f} ms")
    fetched = [counters(a)["fetches"] for a in c.node_addresses]
    run.check(min(fetched) > 0 and sum(fetched) > fetches,
              "threads read cold keys on each node: " + ", ".join(map(str, fetched)))
    now_missing = total(c, "takeovers", "left_out")
    run.check(now_missing == missing,
              f"nobody was taken for missing ({now_missing - missing} changes of members)")
    run.check(c.duet("status").returncode == 0, "the cluster is well")


def main(run):
    memory_mib, seconds = (192, 20) if run.long else (12, 3)
    flags = ("--segment-size", "4", "--log-retention", "8", "--replay-max", "16", "--pending-size",
             "16", "--kept-size", "8", "--overlay-size", "4", "--memory", str(memory_mib))
    with contextlib.ExitStack() as stack:
        c = stack.enter_context(run.cluster(nodes=NODES, copies=COPIES, partitions=64, routers=1,
                                            node_flags=flags))
        if run.long:
            limit_nodes(run, c, stack, memory_mib << 20)
        c.start()
        measure(run, c, memory_mib, seconds)
        c.close()


def limit_nodes(run, c, stack, size):
    for node in c.nodes:
        limit = stack.enter_context(MemoryLimit(size, node.name))
        if limit.directory is None:
            run.skip(f"no limit of memory for {node.name}: {limit.why}")
            return
        node.enter_host = limit.enter


scenario.run(main, __doc__)
