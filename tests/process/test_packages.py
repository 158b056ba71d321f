"""Real data: the paragraph of every Debian package that apt knows, imported in a pipeline, exported
through the other router and compared; then read again while a node is killed, written again, and
read after everything was killed at once."""
import os
import subprocess
import time

import scenario
from scenario import Canary, Reread, compare_copies


def packages():
    """{name: paragraph}; of several versions of a package the last one stays."""
    text = subprocess.run(["apt-cache", "dumpavail"], stdout=subprocess.PIPE, check=True).stdout
    records = {}
    for paragraph in text.split(b"\n\n"):
        if paragraph.startswith(b"Package: "):
            name = paragraph[9:paragraph.find(b"\n")]
            records[name] = paragraph
    return records


def tsv(records):
    return b"".join(k + b"\t" + v.replace(b"\\", b"\\\\").replace(b"\t", b"\\t")
                    .replace(b"\n", b"\\n") + b"\n" for k, v in records.items())


def import_all(run, c, data, count, what):
    began = time.monotonic()
    done = c.duet("import", "-", router=0, stdin=data, timeout=300)
    took = time.monotonic() - began
    run.check(done.returncode == 0, f"{what}: {count} records in {took:.1f} s "
                                    f"({count / took:.0f} a second)" +
              ("" if done.returncode == 0 else f": {done.stderr[-300:]}"))


def export_all(run, c, data, what):
    done = c.duet("export", router=1, timeout=300)
    same = sorted(done.stdout.splitlines()) == sorted(data.splitlines())
    run.check(done.returncode == 0 and same, what)


def listing(c, records):
    path = os.path.join(c.dir, "listing")
    with open(path, "w", encoding="ascii") as to:
        for k, v in records.items():
            to.write(f"{k.hex()}\t0\t0\t{v.hex()}\n")
    return path


def main(run):
    records = packages()
    if not run.long:
        records = dict(list(records.items())[::4])
    data = tsv(records)
    run.say(f"{len(records)} packages, {len(data) / 1e6:.1f} MB")
    run.check(len(records) >= 100, "apt knows packages")
    with run.cluster() as c:
        c.start()
        path = listing(c, records)
        import_all(run, c, data, len(records), "imported")
        export_all(run, c, data, "the export through the other router is the same set")
        with Canary(c.dir) as canary, Reread(run, c, path) as reread:
            reread.wait_more(len(records) // 3)
            c.nodes[1].kill()
            reread.wait_more(2 * len(records))
            c.nodes[1].start()
            c.wait_serving()
            reread.wait_more(len(records))
            slowest = reread.finish("read again and again while a node is killed and comes back")
            run.check(slowest < canary.allowed_ms(1000), f"no read took a second ({canary})")
        import_all(run, c, data, len(records), "written again, all of them")
        for p in c.processes:
            p.popen.kill()
        for p in c.processes:
            p.popen.wait()
        for p in c.processes:
            p.start()
        c.wait_serving()
        export_all(run, c, data, "all processes killed at once and started: everything is there")
        compare_copies(run, c, path)


scenario.run(main, __doc__)
