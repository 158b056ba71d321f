"""Every command of `duet` once, against three nodes and two routers."""
import json
import os

import scenario


def one_key(run, c):
    run.check(c.good("put", "apple", "red").startswith(b"ok "), "put says ok and the version")
    run.check(c.good("get", "apple", router=1) == b"red",
              "get through the other router: the value and nothing else")
    c.good("put", "apple", "-", stdin=b"a\0b\nc")
    run.check(c.good("get", "apple") == b"a\0b\nc", "a value from stdin, any bytes")
    run.check(c.good("put", "--", "-key", "v") and c.good("get", "--", "-key") == b"v",
              "a key that begins with a dash")
    hexed = c.good("put", "--key-format", "hex", "00ff0a", "binary") and \
        c.good("get", "--key-format", "base64", "AP8K")
    run.check(hexed == b"binary", "a key written in hex, read in base64")
    run.check(c.good("put", "empty", "") and c.good("get", "empty") == b"", "an empty value")
    missing = c.duet("get", "nothing")
    run.check(missing.returncode == 1 and missing.stdout == b"" and
              b"no such key" in missing.stderr, "get of nothing: exit code 1, the words on stderr")
    run.check(c.good("del", "apple") and c.duet("get", "apple").returncode == 1, "del")
    run.check(c.duet("del", "apple").returncode == 1, "del of nothing: exit code 1")


def numbers(run, c):
    run.check([c.good("incr", "n", *d).strip() for d in ([], ["41"], ["-50"])] ==
              [b"1", b"42", b"-8"], "incr by 1, by 41, by -50")
    c.good("put", "text", "abc")
    done = c.duet("incr", "text")
    run.check(done.returncode == 5 and b"integer" in done.stderr, "incr of a text: exit code 5")
    c.good("put", "big", "9223372036854775807")
    run.check(c.duet("incr", "big").returncode == 5, "incr beyond 64 bits: exit code 5")
    run.check(c.good("get", "big") == b"9223372036854775807", "and the number is still there")


def conditions(run, c):
    run.check(c.duet("put", "--if-present", "cond", "1").returncode == 6,
              "put --if-present of nothing: exit code 6")
    c.good("put", "--if-absent", "cond", "1")
    run.check(c.duet("put", "--if-absent", "cond", "2").returncode == 6,
              "put --if-absent twice: exit code 6")
    run.check(c.good("cas", "cond", "1", "2") and c.good("get", "cond") == b"2", "cas that holds")
    run.check(c.duet("cas", "cond", "1", "3").returncode == 6 and c.good("get", "cond") == b"2",
              "cas that does not: exit code 6, nothing changed")
    version = json.loads(c.good("get", "-o", "json", "cond"))["version"]
    c.good("put", "--if-version", version, "cond", "4")
    run.check(c.duet("put", "--if-version", version, "cond", "5").returncode == 6,
              "put --if-version: only while the version is that")
    run.check(c.duet("del", "--if-value", "x", "cond").returncode == 6 and
              c.good("del", "--if-value", "4", "cond"), "del --if-value")


def parts(run, c):
    run.check([c.good("add", "d", n) for n in ("0.1", "0.20", "-1")] ==
              [b"0.1\n", b"0.3\n", b"-0.7\n"], "add: decimal numbers, exactly")
    run.check(c.good("add", "d", "1", "-o", "raw") == b"0.3" and
              json.loads(c.good("add", "d", "0", "-o", "json"))["value"] == "0.3" and
              c.good("getset", "d", "x", "-o", "hex") == b"302e33\n" and
              c.good("ttl", "d", "-o", "raw") == b"none", "and the same operations with -o")
    run.check(c.duet("add", "d", "1e3").returncode == 2 and
              c.duet("add", "d", "9" * 34).returncode == 5, "add of no number, or one too long")
    c.good("append", "a", "ab")
    c.good("append", "a", "-", stdin=b"\0c")
    run.check(c.good("get", "a", router=1) == b"ab\0c", "append, twice")
    c.good("setrange", "a", "1", "XY")
    c.good("setrange", "a", "6", "z")
    run.check(c.good("get", "a") == b"aXYc\0\0z", "setrange, with a gap")
    run.check(c.duet("setrange", "a", "x", "z").returncode == 2 and
              c.duet("append", "--if-value", "b", "a", "z").returncode == 6 and
              c.good("get", "a") == b"aXYc\0\0z", "a bad offset, and a condition that does not hold")
    run.check(c.good("getset", "g", "1") == b"" and c.good("getset", "g", "2") == b"1",
              "getset: the value before, or nothing")
    run.check(c.good("getdel", "g") == b"2" and c.duet("getdel", "g").returncode == 1,
              "getdel: the value, and then there is none")


def expiry(run, c):
    c.good("put", "e", "1", "--ttl", "600s")
    left = int(c.good("ttl", "e", router=1))
    run.check(590000 < left <= 600000, "ttl: what is left, in ms")
    run.check(c.duet("expire", "e", "900s", "--if-earlier").returncode == 6 and
              c.good("expire", "e", "900s", "--if-later") and int(c.good("ttl", "e")) > 600000,
              "expire with a condition on the expiry")
    c.good("append", "e", "2")
    run.check(json.loads(c.good("ttl", "e", "-o", "json"))["left_ms"] > 600000,
              "append keeps the expiry")
    c.good("persist", "e")
    run.check(c.good("ttl", "e").strip() == b"none" and c.good("get", "e") == b"12", "persist")
    c.good("put", "e", "3", "--ttl", "1h")
    c.good("put", "e", "4", "--keep-ttl")
    run.check(int(c.good("ttl", "e")) > 3000000, "put --keep-ttl")
    c.good("put", "e", "5")
    run.check(c.good("ttl", "e").strip() == b"none", "a put clears it")
    run.check(c.duet("ttl", "nothing").returncode == 1 and
              c.duet("expire", "nothing", "1s").returncode == 1, "of nothing: exit code 1")
    run.check(c.duet("expire", "e", "soon").returncode == 2, "a time that is none: exit code 2")
    c.good("put", "gone1", "1", "--ttl", "300ms")
    c.good("put", "gone2", "1", "--expire-at", "1000")
    run.check(c.duet("get", "gone2").returncode == 1, "an expiry long ago: gone at once")
    scenario.wait_for(lambda: c.duet("get", "gone1").returncode == 1, "a key goes after its time")
    run.check(c.good("put", "gone1", "2", "--if-absent"), "and counts as absent")


def tables(run, c):
    c.good("mput", "w1", "one", "w/longer\tkey", "two")
    lines = c.good("mget", "w1", "w/longer\tkey", "-o", "table").decode().splitlines()
    run.check([l.split()[0] for l in lines][0] == "VERSION" and lines[2].endswith("w/longer\\tkey  two")
              and len({l.index(v) for l, v in zip(lines, ("VALUE", "one", "two"))}) == 1,
              "mget -o table: the values stand in one column")


def several(run, c):
    c.good("mput", "m1", "one", "m2", "two\twords", "m3", "three")
    run.check(c.good("mget", "m1", "m2", "m3", router=1) ==
              b"m1\tone\nm2\ttwo\\twords\nm3\tthree\n", "mput and mget")
    done = c.duet("mget", "m1", "nothing", "m3")
    run.check(done.returncode == 1 and done.stdout == b"m1\tone\nm3\tthree\n",
              "mget of which one is missing: exit code 1, the others come")
    lines = [json.loads(l) for l in c.good("mget", "-o", "jsonl", "m1", "m3").splitlines()]
    run.check([(l["key"], l["value"]) for l in lines] == [("m1", "one"), ("m3", "three")],
              "mget -o jsonl: one object a line")


def ranges(run, c):
    for name in ("b", "a", "mail:2", "mail:1"):
        c.good("put", "{u7}" + name, "of " + name)
    c.good("put", "other", "1")
    c.good("put", "{u8}a", "1")
    keys = [l.split(b"\t")[0] for l in c.good("scan", "{u7}").splitlines()]
    run.check(keys == [b"{u7}a", b"{u7}b", b"{u7}mail:1", b"{u7}mail:2"],
              "scan: the keys of a hash tag, in order, and no others")
    run.check(c.good("scan", "{u7}", "--prefix", "{u7}mail:", router=1) ==
              b"{u7}mail:1\tof mail:1\n{u7}mail:2\tof mail:2\n", "scan --prefix")
    run.check(c.good("scan", "{u7}", "--from", "{u7}b", "--to", "{u7}mail:2", "--keys-only") ==
              b"{u7}b\n{u7}mail:1\n", "scan --from --to --keys-only")
    rows = [json.loads(l) for l in c.good("scan", "{u7}", "-o", "jsonl", "--limit", "2").splitlines()]
    run.check([(r["key"], r["value"]) for r in rows] == [("{u7}a", "of a"), ("{u7}b", "of b")],
              "scan -o jsonl --limit")
    run.check(c.duet("scan", "--prefix", "x").returncode == 2, "a prefix needs a hash tag")
    c.good("put", "{big}", "-", stdin=b"x" * 200000)
    run.check(c.good("count", "{u7}").strip() == b"4" and
              c.good("count", "{u7}", "--prefix", "{u7}mail:").strip() == b"2", "count of a hash tag")
    everything = len(c.good("scan", "--keys-only").splitlines())
    run.check(int(c.good("count", router=1)) == everything and everything > 6,
              f"count of the whole store: {everything}")
    run.check(c.duet("clear", "{u7}").returncode == 2 and c.good("count", "{u7}").strip() == b"4",
              "clear without --yes: exit code 2, and nothing is gone")
    run.check(c.good("clear", "{u7}", "--prefix", "{u7}mail:", "--yes").strip() == b"2" and
              c.good("count", "{u7}").strip() == b"2", "clear of a part of a hash tag")
    run.check(json.loads(c.good("clear", "{u7}", "--yes", "-o", "json")) == {"deleted": 2} and
              c.good("get", "{u8}a") == b"1", "clear of a hash tag: the others stay")


def atomic(run, c):
    lines = b"put\t{acc}a\t100\tif-absent\nput\t{acc}b\t0\tif-absent\n"
    run.check(c.good("atomic", stdin=lines).strip() == b"ok 2", "atomic: two puts")
    done = c.duet("atomic", "-", stdin=lines)
    run.check(done.returncode == 6 and b"nothing was changed" in done.stderr and
              b"{acc}a: " in done.stderr, "again: exit code 6, and the words say where")
    move = b"incr\t{acc}a\t-30\tif-value=100\nincr\t{acc}b\t30\ncheck\t{acc}c\tif-absent\n"
    c.good("atomic", stdin=move, router=1)
    run.check(c.good("mget", "{acc}a", "{acc}b") == b"{acc}a\t70\n{acc}b\t30\n", "a transfer")
    done = c.duet("atomic", "-o", "json", stdin=move)
    told = json.loads(done.stdout)
    run.check(done.returncode == 6 and told["outcome"] == "CONDITION" and
              [o["outcome"] for o in told["operations"]] == ["CONDITION", "OK", "OK"] and
              c.good("mget", "{acc}a", "{acc}b") == b"{acc}a\t70\n{acc}b\t30\n",
              "a transfer that cannot be: all as before")
    done = c.duet("atomic", stdin=b"put\t{acc}a\t1\nput\tother\t1\n")
    run.check(done.returncode == 2 and b"hash tag" in done.stderr, "keys of two tags: exit code 2")
    done = c.duet("atomic", stdin=b"put\t{acc}a\t1\n\nmove\t{acc}b\n")
    run.check(done.returncode == 2 and b"line 3" in done.stderr, "a bad line is named")
    many = b"".join(b"put\t{acc}%d\tx\n" % i for i in range(255))
    run.check(c.good("atomic", stdin=many).strip() == b"ok 255" and
              c.duet("atomic", stdin=many + b"del\t{acc}a\n").returncode == 2, "255, not more")


def clear(run, c):
    run.check(c.duet("clear").returncode == 2, "clear of everything needs --yes, too")
    there = int(c.good("count"))
    run.check(int(c.good("clear", "--yes")) == there and c.good("count").strip() == b"0",
              f"clear of the whole store: {there} keys")


def formats(run, c):
    c.good("put", "f", "\u00e4")
    run.check(json.loads(c.good("get", "-o", "json", "f"))["value"] == "\u00e4", "get -o json")
    run.check(c.good("get", "-o", "hex", "f").strip() == b"c3a4", "get -o hex")
    c.good("put", "f", "-", stdin=b"\xff\xfe")
    run.check(json.loads(c.good("get", "-o", "json", "f"))["value64"] == "//4=",
              "bytes that are no text come as value64")
    done = c.duet("get", "-o", "json", "nothing")
    run.check(done.returncode == 1 and json.loads(done.stdout)["error"] == "NOTFOUND",
              "errors come as JSON, too")


def transfer(run, c):
    records = {f"t{i}": f"value {i}\n\twith\\all" for i in range(5000)}
    escape = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n"})
    tsv = "".join(f"{k}\t{v.translate(escape)}\n" for k, v in records.items()).encode()
    c.good("import", "-", stdin=tsv)
    lines = [json.loads(l) for l in c.good("export", "--format", "jsonl", router=1).splitlines()]
    out = {l["key"]: l["value"] for l in lines if "value" in l and l.get("key", "")[:1] == "t"}
    out.pop("text", None)
    run.check(out == records and len(lines) == len({str(l) for l in lines}),
              f"{len(records)} records imported, exported through the other router as JSON lines")
    file = os.path.join(c.dir, "records.jsonl")
    with open(file, "w", encoding="utf8") as to:
        for k, v in records.items():
            to.write(json.dumps({"key": k + "x", "value": v}) + "\n")
    c.good("import", file)
    run.check(c.good("get", "t77x") == records["t77"].encode(), "import of a file of JSON lines")
    exported = c.good("export").splitlines()
    run.check(len(exported) >= 10000 and tsv.splitlines()[77] in exported, "export as TSV")


def cluster(run, c):
    status = json.loads(c.good("status", "-o", "json"))
    run.check(status["ok"] and len(status["nodes"]) == 3 and len(status["routers"]) == 2,
              "status -o json: three nodes, two routers, all is well")
    run.check(b"all is well" in c.good("status"), "status for people")
    where = json.loads(c.good("where", "-o", "json", "apple"))
    run.check(where["primary"] in where["copies"] and len(where["copies"]) == 2,
              "where: the primary and its replica")
    run.check(c.good("where", "{t}a").split()[:6] == c.good("where", "{t}b").split()[:6],
              "where: keys of one hash tag are in one partition")
    c.nodes[2].kill()
    done = scenario.wait_for(lambda: (d := c.duet("status")).returncode == 5 and
                             b"n3" in d.stdout and d, "status notices the missing node")
    run.check(b"start it" in done.stdout, "status of a cluster without a node: what is wrong, "
                                          "what to do; exit code 5")
    c.nodes[2].start()
    c.wait_serving()
    run.check([p.stop() for p in c.processes] == [0] * 5, "SIGTERM: all end with exit code 0")
    done = c.duet("get", "apple", "--timeout", "500")
    run.check(done.returncode == 3 and b"router" in done.stderr,
              "no router: exit code 3, and the words say so")


def main(run):
    with run.cluster() as c:
        c.start()
        run.say("three nodes and two routers serve")
        for part in (one_key, numbers, conditions, parts, expiry, tables, several, formats, ranges,
                     atomic, transfer, clear, cluster):
            part(run, c)


scenario.run(main, __doc__)
