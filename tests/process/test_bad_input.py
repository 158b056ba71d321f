"""Wrong input at every door: the command line, the programs' options, the ports (as ZeroMQ messages
and as raw bytes), the directories. Each time: a clear message, the right exit code, and the cluster
goes on as if nothing had been said."""
import json
import os
import random
import shutil
import socket
import subprocess
import threading

import scenario
import zmtp
from cluster import Process, clean_environment, wait_for
from zmtp import Dealer


def undisturbed(run, c, after):
    """Everything still runs (as the same processes) and serves."""
    alive = [p.name for p in c.processes if not p.alive()]
    served = c.duet("put", "still", after).returncode == 0 and \
        c.duet("get", "still", router=1).stdout == after.encode()
    run.check(not alive and served, f"undisturbed by {after}" +
              (f"; ended: {alive}" if alive else ""))
    for p in list(c.processes):
        if not p.alive():
            p.start()
    c.wait_serving()


def refused(run, done, code, words, what):
    text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode(errors="replace")
    good = done.returncode == code and all(w in text for w in words) and len(text) < 1000
    run.check(good, what + ("" if good else f": exit code {done.returncode}, said {text!r}"))


# ---------------------------------------------------------------------- the command line


def command_line(run, c):
    big = b"x" * ((1 << 20) + 1)
    refused(run, c.duet("get", ""), 2, ["key"], "duet: empty key")
    refused(run, c.duet("put", "k" * 481, "v"), 2, ["480"], "duet: key of 481 bytes")
    run.check(c.duet("put", "k" * 480, "v").returncode == 0, "duet: key of 480 bytes is taken")
    refused(run, c.duet("put", "big", "-", stdin=big), 2, ["too large", "1048576"],
            "duet: value of 1 MiB + 1 byte")
    run.check(c.duet("put", "big", "-", stdin=big[1:]).returncode == 0 and
              c.duet("get", "big").stdout == big[1:], "duet: value of 1 MiB is taken")
    refused(run, c.duet("gett", "k"), 2, ["gett", "did you mean 'get'"], "duet: unknown command")
    refused(run, c.duet("get", "--timeut", "5", "k"), 2, ["timeut", "did you mean"],
            "duet: unknown option")
    refused(run, c.duet("get", "--timeout", "abc", "k"), 2, ["timeout", "abc"],
            "duet: option with a bad value")
    refused(run, c.duet("get", "-o", "xml", "k"), 2, ["xml", "json"], "duet: unknown format")
    refused(run, c.duet("get"), 2, ["few"], "duet: too few words")
    refused(run, c.duet("get", "a", "b"), 2, ["many"], "duet: too many words")
    refused(run, c.duet("incr", "k", "1x"), 2, ["1x"], "duet: incr by what is no number")
    refused(run, c.duet("put", "--if-version", "7", "k", "v"), 2, ["7"], "duet: bad version")
    refused(run, c.duet("put", "--if-absent", "--if-present", "k", "v"), 2, ["one condition"],
            "duet: two conditions")
    refused(run, c.duet("get", "--key-format", "hex", "0g"), 2, ["hex"], "duet: key is not hex")
    refused(run, c.duet("get", "--routers", "nonsense", "k"), 2, ["nonsense"],
            "duet: router's address is none")
    refused(run, c.duet("import", "/nothing/there"), 2, ["/nothing/there"],
            "duet: import of a missing file")
    refused(run, c.duet("import", "-", stdin=b"no tab here\n"), 2, ["line 1", "tab"],
            "duet: import of a line without tab")
    undisturbed(run, c, "the command line")


# ---------------------------------------------------------------------- the programs' options


def program(c, *argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=30, env=clean_environment())


def config(c, text):
    path = os.path.join(c.dir, "test.conf")
    with open(path, "w", encoding="utf8") as to:
        to.write(text)
    return path


def options(run, c):
    storage, router = c.program("duet-storage"), c.program("duet-router")
    node = [storage, "--cluster", c.cluster_file, "--name", "n1", "--dir", c.dir + "/n1"]
    refused(run, program(c, *node, "--segmentsize", "4"), 64, ["segment_size"],
            "duet-storage: unknown option, did you mean")
    refused(run, program(c, *node, "--segment-size", "0"), 64, ["segment"],
            "duet-storage: value out of range")
    refused(run, program(c, *node, "--config", config(c, 'overlaysize = "4"\n')), 78,
            ["overlaysize", "did you mean overlay_size", "test.conf"],
            "duet-storage: unknown key in the file")
    refused(run, program(c, storage, "--cluster", c.cluster_file, "--name", "n9", "--dir", c.dir),
            78, ["n9"], "duet-storage: a name that the cluster file does not have")
    refused(run, program(c, storage, "--cluster", "/nothing", "--name", "n1", "--dir", c.dir), 78,
            ["/nothing", "--found"], "duet-storage: no cluster file")
    refused(run, program(c, storage, "--cluster", config(c, "\x01\x02garbage\n   {{{"), "--name",
                         "n1", "--dir", c.dir), 78, ["test.conf"],
            "duet-storage: cluster file that is none")
    refused(run, program(c, storage, "--name", "n1", "--dir", c.dir), 64, ["--cluster", "--join"],
            "duet-storage: without a cluster file")
    good = program(c, *node, "--check-config")
    run.check(good.returncode == 0 and "OK" in good.stdout, "duet-storage: --check-config")
    dump = program(c, *node, "--overlay-size", "77", "--dump-config")
    again = program(c, storage, "--config", config(c, dump.stdout), "--check-config")
    run.check("77" in dump.stdout and again.returncode == 0,
              "duet-storage: what --dump-config prints is a file for --config")
    refused(run, program(c, router, "--nodes", "tcp://127.0.0.1:1", "--slotz", "9"), 64,
            ["slotz", "did you mean slots"], "duet-router: unknown option, did you mean")
    refused(run, program(c, router, "--config", config(c, 'listem = "x"\n')), 78,
            ["listem", "did you mean listen"], "duet-router: unknown key in the file")
    refused(run, program(c, router), 64, ["--nodes"], "duet-router: without nodes")
    refused(run, program(c, router, "--nodes", "tcp://127.0.0.1:1", "--listen",
                         "tcp://0.0.0.0:7"), 78, ["--insecure"],
            "duet-router: not loopback and not --insecure")
    refused(run, program(c, router, "--nodes", c.node_addresses[0], "--listen",
                         c.router_addresses[0]), 69, ["in use", c.router_addresses[0]],
            "duet-router: port in use")
    undisturbed(run, c, "bad options")


# ---------------------------------------------------------------------- messages


def message_doors(c):
    """Every port that listens, and a good message for it."""
    ping = zmtp.frame(zmtp.PING, zmtp.field64(1, 99))
    doors = [("router", c.router_addresses[0], ping), ("node", c.node_addresses[0], ping)]
    host, port = c.node_addresses[0].rsplit(":", 1)
    doors.append(("node's peers", f"{host}:{int(port) + 1}", None))
    return doors


def still_answers(door, address, ping):
    if ping is None:
        return True
    with Dealer(address) as d:
        return d.ask(ping)[0] == zmtp.PONG


def wrong_messages(run, c):
    for door, address, ping in message_doors(c):
        if ping is None:
            continue
        with Dealer(address) as d:
            for what, message, status in (
                    ("another protocol version", zmtp.frame(zmtp.PING, version=9),
                     zmtp.UNSUPPORTED),
                    ("another magic", zmtp.frame(zmtp.PING, magic=0x55), zmtp.MALFORMED),
                    ("kind 0", zmtp.frame(0), zmtp.MALFORMED),
                    ("an unknown kind", zmtp.frame(200), zmtp.UNSUPPORTED),
                    ("one byte", b"\xd7", zmtp.MALFORMED),
                    ("a HELLO of version 9 only", zmtp.hello(9, 9), zmtp.UNSUPPORTED)):
                kind, said = d.ask(message)
                good = kind == zmtp.REFUSED and said[1] == [status] and said.get(2)
                run.check(good, f"{door}: {what} is refused, in words" +
                          ("" if good else f": kind {kind}, {said}"))
            run.check(d.ask(ping)[0] == zmtp.PONG, f"{door}: the connection goes on")
    with Dealer(c.router_addresses[0]) as d:
        kind, said = d.ask(zmtp.hello(cluster=bytes(16)))
        run.check(kind == zmtp.REFUSED and said[1] == [zmtp.WRONGCLUSTER],
                  "router: a HELLO for another cluster is refused")


def wrong_operations(run, c):
    """Bad operations among good ones: each is answered for itself."""
    with Dealer(c.router_addresses[0]) as d:
        token = d.ask(zmtp.hello())[1].get(7, [0])[0]
        operations = [(2, b"good1", zmtp.put(b"v")), (2, b"", zmtp.put(b"v")),
                      (2, b"k" * 481, zmtp.put(b"v")), (2, b"bad", zmtp.field(2, 99)),
                      (2, b"bad", b"\xff\xff\xff"), (1, b"good2", b""),
                      (2, b"bad", zmtp.put(b"v" * ((1 << 20) + 1))), (2, b"good3", zmtp.put(b"w"))]
        kind, said = d.ask(zmtp.request(4711, 1, operations, token))
        got = zmtp.statuses(said) if kind == zmtp.ANSWER else []
        good = len(got) == len(operations) and got[0] == got[-1] == 0 and got[5] == 1 and \
            all(got[i] not in (0, 1) for i in (1, 2, 3, 4, 6))
        run.check(good, "router: bad operations of a request are answered one by one, the others "
                        f"are done (kind {kind}, statuses {got})")
    run.check(c.duet("get", "good3").stdout == b"w" and c.duet("get", "bad").returncode == 1,
              "router: and nothing else was done")


def mutations(rng, message, count):
    """Cut, changed and grown forms of a message."""
    for i in range(len(message)):
        yield message[:i]
    for _ in range(count if len(message) > 4 else 0):
        data = bytearray(message)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        yield bytes(data)
        yield bytes(data) + rng.randbytes(rng.randrange(1, 200))


def fuzz(run, c, rng):
    key, ids = b"some key", [(5 << 32) + 1]
    good = [zmtp.hello(), zmtp.request(1, 1, [(2, key, zmtp.put(b"v")), (1, key, b"")], 1),
            zmtp.frame(zmtp.BATCH, zmtp.field64(1, 77) + zmtp.packed64(2, ids) +
                       zmtp.packed(3, [1]) + zmtp.packed64(4, [1 << 60]) +
                       zmtp.packed(10, [100]) + zmtp.field_bytes(11, key) +
                       zmtp.field_bytes(12, b"")),
            zmtp.frame(zmtp.MAP_REQUEST, zmtp.field(1, 1)), zmtp.frame(zmtp.STATUS_REQUEST)]
    good += [zmtp.frame(kind, zmtp.field(1, 1) + zmtp.field(2, 1) + zmtp.field(3, 1) +
                        zmtp.packed(4, [1, 2]) + zmtp.packed(5, [1, 2]) + zmtp.packed(6, [1, 2]) +
                        zmtp.packed(7, [0, 0]) + zmtp.packed(8, [0, 0]))
             for kind in (zmtp.HEARTBEAT, zmtp.PROMISE, zmtp.PROMISED, zmtp.APPEND, zmtp.ACK)]
    for door, address, ping in message_doors(c):
        sent = 0
        with Dealer(address) as d:
            drain = threading.Thread(target=swallow, args=(d.socket,), daemon=True)
            drain.start()
            for message in good:
                for wrong in mutations(rng, message, 2000 if run.long else 150):
                    d.send(wrong or b"\0")
                    sent += 1
            for _ in range(20000 if run.long else 1000):
                kind = rng.randrange(1, 40)
                d.send(zmtp.frame(kind, rng.randbytes(rng.randrange(0, 300))))
                sent += 1
            for frames in range(3, 50):
                d.send(*[rng.randbytes(10)] * frames)
                sent += 1
        run.check(still_answers(door, address, ping),
                  f"{door}: {sent} cut, changed and random messages")
    undisturbed(run, c, "wrong messages")


def swallow(s):
    """Read and forget, until it is closed."""
    try:
        while s.recv(65536):
            pass
    except OSError:
        pass


def too_large(run, c):
    for door, address, _ in message_doors(c)[:2]:
        with Dealer(address) as d:
            d.socket.sendall(b"\x02" + (64 << 20).to_bytes(8, "big"))
            try:
                for _ in range(64):
                    d.socket.sendall(bytes(1 << 20))
                closed = d.socket.recv(1) == b""
            except OSError:
                closed = True
            run.check(closed, f"{door}: a frame of 64 MiB ends the connection")
    undisturbed(run, c, "a frame that is too large")


# ---------------------------------------------------------------------- raw bytes


def raw_bytes(run, c, rng):
    texts = [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
             b"*1\r\n$4\r\nPING\r\n", bytes(1000), b"\xff" * 1000, zmtp.greeting(b"PLAIN"),
             zmtp.greeting(b"CURVE"), zmtp.greeting()[:30], zmtp.greeting() + b"\x04\xff" * 200,
             zmtp.greeting() + zmtp.ready(b"ROUTER"), zmtp.greeting() + zmtp.ready(b"SUB"),
             zmtp.greeting() + zmtp.ready() + b"\x02" + b"\xff" * 8]
    texts += [rng.randbytes(rng.randrange(1, 3000)) for _ in range(40)]
    texts += [zmtp.greeting() + rng.randbytes(rng.randrange(1, 300)) for _ in range(40)]
    texts += [zmtp.greeting() + zmtp.ready() + rng.randbytes(rng.randrange(1, 300))
              for _ in range(40)]
    held = []
    for door, address, ping in message_doors(c):
        for text in texts:
            try:
                s = zmtp.open_tcp(address)
                s.sendall(text)
                held.append(s)
            except OSError:
                pass
        run.check(still_answers(door, address, ping), f"{door}: {len(texts)} connections with raw "
                                                      "bytes, left open")
    undisturbed(run, c, "raw bytes")
    for s in held:
        s.close()


# ---------------------------------------------------------------------- directories


def node_process(c, name, dir, *flags, cluster_file=None):
    argv = [c.program("duet-storage"), "--cluster", cluster_file or c.cluster_file, "--name", name,
            "--dir", dir, "--segment-size", "4", *flags]
    return Process("wrong " + name, argv, os.path.join(c.dir, "wrong.log"))


def start_refused(run, process, codes, words, what):
    process.start()
    try:
        code = process.wait_exit(20)
    finally:
        process.kill()
    text = process.output()
    good = code in codes and all(w in text for w in words)
    run.check(good, what + ("" if good else f": exit code {code}, said {text[-400:]!r}"))


def directories(run, c):
    start_refused(run, node_process(c, "n1", c.dir + "/n1"), (69,), ["in use", "n1"],
                  "directory that another process uses")
    c.nodes[0].stop()
    start_refused(run, node_process(c, "n2", c.dir + "/n1"), (69, 70, 65, 78), ["belongs to"],
                  "directory of another node")
    other = os.path.join(c.dir, "other.conf")
    with open(other, "wb") as to:
        subprocess.run([c.program("duet-storage"), "--found", "--nodes", "n1=tcp://127.0.0.1:9"],
                       stdout=to, check=False, env=clean_environment())
    with open(other, "wb") as to:
        pairs = ",".join(f"n{i + 1}={a}" for i, a in enumerate(c.node_addresses))
        subprocess.run([c.program("duet-storage"), "--found", "--nodes", pairs], stdout=to,
                       check=True, env=clean_environment())
    start_refused(run, node_process(c, "n1", c.dir + "/n1", cluster_file=other),
                  (69, 70, 65, 78), ["belongs to"], "directory of another cluster")
    with socket.socket() as taken:
        host, port = c.node_addresses[0].removeprefix("tcp://").rsplit(":", 1)
        wait_for(lambda: bind(taken, host, int(port)), "the port is free")
        taken.listen()
        start_refused(run, node_process(c, "n1", c.dir + "/n1"), (69,), ["in use", port],
                      "port in use")
    file = os.path.join(c.dir, "a file")
    with open(file, "w", encoding="utf8") as to:
        to.write("x")
    start_refused(run, node_process(c, "n1", file), (74, 69, 78), ["a file"],
                  "directory that is a file")
    c.nodes[0].start()
    c.wait_serving()
    undisturbed(run, c, "foreign directories")


def bind(s, host, port):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind((host, port))
    except OSError:
        return False
    return True


# ---------------------------------------------------------------------- corruption


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x10]))


def segments(c, index):
    """Those with records, the oldest first."""
    folder = os.path.join(c.dir, c.nodes[index].name, "log")
    found = []
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            head = f.read(1 << 16)
        if any(head):
            found.append(path)
    return found


def corruption(run, c):
    words = [w for i in range(1000) for w in (f"c{i}", "x" * 300)]
    c.good("mput", *words)
    for i in range(10):  # groups of their own, so that no bit of the words is in the last one: that
        c.good("put", f"c{i}", "x" * 300)  # could be a torn tail
    c.nodes[0].kill()
    path = segments(c, 0)[-1]
    with open(path, "rb") as f:
        used = len(f.read().rstrip(b"\0"))
    for part, offset in (("in the middle", used // 2), ("near the beginning", 5000)):
        flip(path, offset)
        start_refused(run, node_process(c, "n1", c.dir + "/n1"), (69, 74, 65),
                      [os.path.basename(path), "offset"],
                      f"one bit {part} of {os.path.basename(path)} (offset {offset} of {used}): "
                      "the node refuses and names segment and offset")
        flip(path, offset)
    identity = os.path.join(c.dir, "n1", "identity")
    shutil.copy(identity, identity + ".kept")
    flip(identity, 20)
    start_refused(run, node_process(c, "n1", c.dir + "/n1"), (69, 74, 65), ["identity"],
                  "one bit of the identity: the node refuses and names it")
    shutil.move(identity + ".kept", identity)
    table = os.path.join(c.dir, "n1", "table", "data.mdb")
    shutil.copy(table, table + ".kept")
    os.truncate(table, 8192)  # what is left says that there is more
    start_refused(run, node_process(c, "n1", c.dir + "/n1"), (74,), ["data.mdb", "cut short"],
                  "the table cut short: the node refuses and names the file")
    shutil.move(table + ".kept", table)
    c.nodes[0].start()
    c.wait_serving()
    run.check(c.good("mget", *[f"c{i}" for i in range(1000)]).count(b"x" * 300) == 1000,
              "the bits put back: the node starts, everything is there")
    undisturbed(run, c, "corruption")


# ---------------------------------------------------------------------- a full disk


def mount(*words):
    return subprocess.run(["mount", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False).returncode == 0


def full_disk(run):
    with run.cluster(nodes=2) as c:
        dir = os.path.join(c.dir, "n1")
        if os.geteuid() != 0 or not mount("-t", "tmpfs", "-o", "size=128m", "duet-test", dir):
            run.skip("full disk: a small file system cannot be mounted here (needs root)")
            return
        try:
            fill(run, c, dir)
        finally:
            for p in c.processes:
                p.kill()
            subprocess.run(["umount", dir], check=False)


def fill(run, c, dir):
    c.start()
    value = "v" * 100000
    kept, full = [], []
    for i in range(0, 4000, 12):
        words = [w for k in range(i, i + 12) for w in (f"f{k}", value)]
        done = c.duet("mput", "-o", "jsonl", "--timeout", "3000", *words)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        kept += [one["key"] for one in said if "error" not in one]
        full = [one for one in said if one.get("error") == "FULL"]
        if full or not c.nodes[0].alive():
            break
    said = f"disk full after {len(kept)} values of 100 kB: exit code {done.returncode}"
    if not run.check(full and done.returncode == 5, said):
        return
    done = c.duet("put", full[0]["key"], "x")
    run.check(done.returncode == 5 and b"disk is nearly full" in done.stderr,
              "small writes are refused as well, in words: " + done.stderr.decode().strip())
    run.check(all(p.alive() for p in c.processes), "nobody ended")
    some = kept[::max(1, len(kept) // 40)]
    expected = (value + "\n").encode() * len(some)
    run.check(c.duet("mget", "-o", "raw", *some).stdout == expected,
              "what was acknowledged can be read")
    run.check("disk_nearly_full" in c.nodes[0].output(), "the node's log says it")
    mount("-o", "remount,size=400m", dir)
    wait_for(lambda: c.duet("put", "f0", value, "--timeout", "500").returncode == 0,
             "writes are taken again", 20)
    run.check(True, "room made: writes are taken again")
    c.nodes[0].kill()
    c.nodes[0].start()
    c.wait_serving()
    run.check(c.duet("mget", "-o", "raw", *some).stdout == expected,
              "and after a restart all is there")


def main(run):
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    run.say(f"SEED={seed}")
    with run.cluster() as c:
        c.start()
        command_line(run, c)
        options(run, c)
        wrong_messages(run, c)
        wrong_operations(run, c)
        fuzz(run, c, rng)
        too_large(run, c)
        raw_bytes(run, c, rng)
        directories(run, c)
        corruption(run, c)
    full_disk(run)


scenario.run(main, __doc__)
