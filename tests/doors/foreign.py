#!/usr/bin/python3
"""A foreign client: python3-zmq and python3-protobuf, no line of our code.

usage: foreign.py ROUTER_ADDRESS

Stubs are generated from proto/*.proto at test time. Against a running cluster it says HELLO, puts,
gets, puts on conditions, increments, asks for an outcome and scans through a DEALER, then the same
through a REQ socket, and sends nonsense. Prints "N passed, N failed"; exit 1 when any failed.
"""
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time

import zmq

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PREFIX = bytes([0xD7, 1])
HELLO, HELLO_REPLY, REQUEST, ANSWER, REFUSED, PING, PONG = 1, 2, 3, 4, 7, 8, 9
MAP_REQUEST, MAP, STATUS_REQUEST, STATUS = 10, 11, 12, 13
READ, WRITE, OUTCOME, SCAN, RANGE, ATOMIC = 1, 2, 3, 4, 5, 6
OK, NOTFOUND, CONDITION, MALFORMED, TOOBIG, ABORTED, UNSUPPORTED, NOTNUMBER, USAGE = (
    0, 1, 2, 7, 8, 14, 15, 16, 26)
RETRY, VALUE, ANY, CONFIRMED = 1, 8, 16, 32
WAIT_MS = 10000
NOISE = random.Random(7).randbytes(199)  # the same each time: some noise is a message


def stubs():
    """The generated modules; the folder that they lie in goes when they are loaded."""
    folder = tempfile.mkdtemp(prefix="duet-foreign-")
    try:
        subprocess.run(
            ["protoc", "-I", ROOT, "--python_out", folder, "proto/data.proto",
             "proto/cluster.proto"], cwd=ROOT, check=True)
        sys.path.insert(0, folder)
        from proto import cluster_pb2, data_pb2
        return data_pb2, cluster_pb2
    finally:
        shutil.rmtree(folder)


data, cluster = stubs()


class Refused(Exception):
    pass


class Client:
    """One socket to one router. A REQ socket sends and receives in turns; both work here."""

    def __init__(self, context, kind, address):
        self.socket = context.socket(kind)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)
        self.client_id = secrets.randbits(64) or 1
        self.seq = 1
        self.ptime = 0

    def close(self):
        self.socket.close()

    def send(self, kind, message):
        self.socket.send(PREFIX + bytes([kind, 0]) + message.SerializeToString())

    def receive(self, kind, message):
        if not self.socket.poll(WAIT_MS):
            raise TimeoutError("no answer")
        frame = self.socket.recv_multipart()[-1]  # a DEALER that sent a delimiter gets one
        assert frame[:2] == PREFIX and frame[3] == 0, frame[:4]
        if frame[2] == REFUSED and kind != REFUSED:
            refused = data.Refused.FromString(frame[4:])
            raise Refused(f"{refused.status}: {refused.message}")
        assert frame[2] == kind, f"kind {frame[2]}, not {kind}"
        return message.FromString(frame[4:])

    def hello(self):
        self.send(HELLO, data.Hello(protocol_min=1, protocol_max=1, role=1,
                                    boot_id=self.client_id, name="foreign.py"))
        reply = self.receive(HELLO_REPLY, data.Hello)
        self.ptime = max(self.ptime, reply.ptime)
        return reply

    def request(self, operations, ack_below=None):
        """Answers to [(kind, key, operation bytes)], in their order, as (status, flags, version,
        value). What the router says may be retried is retried, with the same ids."""
        first = self.seq
        self.seq += len(operations)
        answers = {}
        deadline = time.monotonic() + WAIT_MS / 1000
        while len(answers) < len(operations):
            left = [i for i in range(len(operations)) if first + i not in answers]
            for i in left:
                kind, key, body = operations[i]
                self.send(REQUEST, data.Request(
                    client_id=self.client_id, first_seq=first + i,
                    ack_below=first if ack_below is None else ack_below,
                    ptime_token=self.ptime, deadline_ms=5000, kinds=[kind], keys=[key],
                    operations=[body]))
                if self.socket.type == zmq.REQ:
                    self.take(answers)
            if self.socket.type != zmq.REQ:
                self.collect(len(left), answers)
            if time.monotonic() > deadline:
                raise TimeoutError("refused until the deadline")
        return [answers[first + i] for i in range(len(operations))]

    def collect(self, count, answers):
        while count > 0:
            count -= self.take(answers)

    def take(self, answers):
        """One ANSWER; returns how many operations it answered, refusals for now included."""
        m = self.receive(ANSWER, data.Answer)
        assert m.client_id == self.client_id
        self.ptime = max(self.ptime, m.ptime)
        # An array that is all zero may be left out.
        column = lambda values, i, rest: values[i] if values else rest
        for i, seq in enumerate(m.op_seqs):
            flags = column(m.flags, i, 0)
            if flags & RETRY:
                time.sleep(0.02)
                continue
            answers[seq] = (column(m.statuses, i, OK), flags,
                            (column(m.epochs, i, 0), column(m.seqs, i, 0)),
                            column(m.values, i, b"") if flags & VALUE else None)
        return len(m.op_seqs)

    def one(self, kind, key, body=b"", ack_below=None):
        return self.request([(kind, key, body)], ack_below)[0]

    def get(self, key):
        return self.one(READ, key)

    def write(self, key, **fields):
        return self.one(WRITE, key, data.Operation(**fields).SerializeToString())

    def put(self, key, value, **fields):
        return self.write(key, mutation=data.MUTATION_PUT, value=value, **fields)

    def scan(self, keys_only=False):
        """Everything, as {key: value}."""
        found, cursor = {}, b""
        while True:
            body = data.ScanQuery(count_max=100, keys_only=keys_only).SerializeToString()
            status, _, _, value = self.one(SCAN, cursor, body)
            assert status == OK, status
            page = data.ScanPage.FromString(value or b"")
            for key, item in zip(page.keys, page.values or [b""] * len(page.keys)):
                assert key not in found, f"{key} came twice"
                found[key] = item
            if not page.next:
                return found
            assert page.next > cursor, "the cursor does not move"
            cursor = page.next

    def range(self, tag, **fields):
        """The keys of a hash tag, page by page, as a list of pages; or of numbers."""
        pages = []
        while not pages or fields["from"]:
            body = data.ScanQuery(**fields).SerializeToString()
            status, _, _, value = self.one(RANGE, tag, body)
            assert status == OK, status
            page = data.ScanPage.FromString(value or b"")
            pages.append(page.counted if fields.get("count_only") else list(page.keys))
            fields["from"] = page.next
        return pages


passed = failed = 0


def check(name, is_so, seen=""):
    global passed, failed
    if is_so:
        passed += 1
    else:
        failed += 1
        print(f"FAILED  {name}  {seen}")


def case(name, run, *arguments):
    try:
        run(name, *arguments)
    except Exception as e:  # pylint: disable=broad-except
        check(name, False, f"{type(e).__name__}: {e}")


def keys_of(name):
    """Keys of this run and case only, so that the cluster may hold anything else."""
    base = f"foreign:{secrets.token_hex(4)}:{name}:"
    return lambda word: (base + word).encode()


def test_hello(name, client):
    reply = client.hello()
    check(f"{name}: speaks version 1", reply.protocol_min <= 1 <= reply.protocol_max, reply)
    check(f"{name}: is a router", reply.role == 2, reply.role)
    check(f"{name}: has a boot id", reply.boot_id != 0)
    check(f"{name}: knows its cluster", len(reply.cluster_id) == 16, reply.cluster_id)


def test_put_get(name, client):
    key = keys_of(name)
    status, _, none, value = client.get(key("a"))
    check(f"{name}: no such key", status == NOTFOUND and value is None, status)
    status, flags, version, _ = client.put(key("a"), b"red\x00\xff")
    check(f"{name}: put", status == OK and version > none, (status, version))
    check(f"{name}: held by two copies", flags >> 8 & 15 >= 2, flags)
    status, _, read, value = client.get(key("a"))
    check(f"{name}: get", status == OK and value == b"red\x00\xff", (status, value))
    check(f"{name}: the version read is that written", read == version, (read, version))
    status, _, _, value = client.put(key("a"), b"")
    status, _, _, value = client.get(key("a"))
    check(f"{name}: an empty value is a value", status == OK and value == b"", (status, value))
    status, _, _, _ = client.write(key("a"), mutation=data.MUTATION_DELETE)
    check(f"{name}: delete", status == OK, status)
    check(f"{name}: deleted", client.get(key("a"))[0] == NOTFOUND)


def test_consistency(name, client):
    """Each kind of read has the value, and the answer says which kind it is."""
    key = keys_of(name)
    version = client.put(key("a"), b"red")[2]
    for kind, flag in ((data.CONSISTENCY_LINEARIZABLE, 0), (data.CONSISTENCY_CONFIRM, CONFIRMED),
                       (data.CONSISTENCY_ANY, ANY)):
        body = data.ReadQuery(consistency=kind).SerializeToString()
        for _ in range(200):  # of any copy the answer may be older than the write
            status, flags, read, value = client.one(READ, key("a"), body)
            if status == OK:
                break
            check(f"{name}: only a read of any copy may be old", flag == ANY, (kind, status))
            time.sleep(0.02)
        check(f"{name}: {kind}", (status, read, value) == (OK, version, b"red"), (status, value))
        check(f"{name}: {kind} is said", flags & (ANY | CONFIRMED) == flag, flags)
        check(f"{name}: {kind} of no key", client.one(READ, key("b"), body)[0] == NOTFOUND)
    body = data.ReadQuery(consistency=9).SerializeToString()
    check(f"{name}: unknown", client.one(READ, key("a"), body)[0] == MALFORMED)


def test_conditions(name, client):
    key = keys_of(name)
    status, _, version, _ = client.put(key("a"), b"1", precondition=data.PRECONDITION_ABSENT)
    check(f"{name}: absent", status == OK, status)
    status, _, _, value = client.put(key("a"), b"2", precondition=data.PRECONDITION_ABSENT, want=1)
    check(f"{name}: no longer absent", status == CONDITION, status)
    check(f"{name}: tells what stands there", value == b"1", value)
    check(f"{name}: nothing changed", client.get(key("a"))[3] == b"1")
    status, _, later, _ = client.put(key("a"), b"3", precondition=data.PRECONDITION_VERSION,
                                     expected_epoch=version[0], expected_seq=version[1])
    check(f"{name}: version", status == OK and later > version, (status, later))
    status, _, _, _ = client.put(key("a"), b"4", precondition=data.PRECONDITION_VERSION,
                                 expected_epoch=version[0], expected_seq=version[1])
    check(f"{name}: old version", status == CONDITION, status)
    status, _, _, _ = client.put(key("a"), b"5", precondition=data.PRECONDITION_VALUE,
                                 expected_value=b"3")
    check(f"{name}: value", status == OK, status)
    status, _, _, _ = client.put(key("b"), b"6", precondition=data.PRECONDITION_PRESENT)
    check(f"{name}: not present", status == CONDITION, status)


def test_increments(name, client):
    key = keys_of(name)
    add = lambda delta: client.write(key("n"), mutation=data.MUTATION_INCREMENT, delta=delta,
                                     want=2)
    status, _, _, value = add(5)
    check(f"{name}: from nothing", status == OK and value == b"5", (status, value))
    status, _, _, value = add(-7)
    check(f"{name}: below zero", status == OK and value == b"-2", (status, value))
    client.put(key("n"), b"many")
    check(f"{name}: not a number", add(1)[0] == NOTNUMBER)


def test_batch(name, client):
    key = keys_of(name)
    put = lambda i: data.Operation(mutation=data.MUTATION_PUT, value=b"%d" % i)
    answers = client.request(
        [(WRITE, key(str(i)), put(i).SerializeToString()) for i in range(50)] +
        [(READ, key(str(i)), b"") for i in range(50)])
    check(f"{name}: all written", all(a[0] == OK for a in answers[:50]))
    check(f"{name}: reads follow the writes of the same connection",
          [a[3] for a in answers[50:]] == [b"%d" % i for i in range(50)])


def test_message_of_many(name, client):
    """Many operations in one message, and the whole answer in one when it is asked for."""
    key = keys_of(name)
    body = data.Operation(mutation=data.MUTATION_PUT, value=b"v").SerializeToString()
    first = client.seq
    client.seq += 20
    for _ in range(100):
        client.send(REQUEST, data.Request(
            client_id=client.client_id, first_seq=first, ack_below=first, flags=1,
            ptime_token=client.ptime, deadline_ms=5000, kinds=[WRITE] * 20,
            keys=[key(str(i)) for i in range(20)], operations=[body] * 20))
        m = client.receive(ANSWER, data.Answer)
        if not any(f & RETRY for f in m.flags):
            break
        time.sleep(0.05)
    check(f"{name}: one answer for all",
          sorted(m.op_seqs) == list(range(first, first + 20)), m.op_seqs)
    check(f"{name}: all written", set(m.statuses) <= {OK}, m.statuses)


def test_same_id_twice(name, client):
    """The id decides, not the number of messages: an increment sent twice counts once."""
    key = keys_of(name)
    body = data.Operation(mutation=data.MUTATION_INCREMENT, delta=1,
                          want=2).SerializeToString()
    for _ in range(3):
        status, _, _, value = client.one(WRITE, key("n"), body)
        check(f"{name}: answered alike", status == OK and value == b"1", (status, value))
        client.seq -= 1
    client.seq += 1
    check(f"{name}: counted once", client.get(key("n"))[3] == b"1")


def test_outcome(name, client):
    key = keys_of(name)
    later = client.seq + 1  # the question itself takes client.seq
    status = client.one(OUTCOME, key("a"), data.OutcomeQuery(
        client_id=client.client_id, seq=later).SerializeToString())[0]
    check(f"{name}: it did not happen", status == ABORTED, status)
    assert client.seq == later
    status = client.put(key("a"), b"late")[0]
    check(f"{name}: and never will", status == ABORTED, status)
    check(f"{name}: nothing was written", client.get(key("a"))[0] == NOTFOUND)
    asked = client.seq
    client.put(key("a"), b"done")
    status = client.one(OUTCOME, key("a"), data.OutcomeQuery(
        client_id=client.client_id, seq=asked).SerializeToString(), ack_below=asked)[0]
    check(f"{name}: what happened is told", status == OK, status)


def test_scan(name, client):
    key = keys_of(name)
    for i in range(250):
        client.put(key(str(i)), b"v%d" % i)
    expected = {key(str(i)): b"v%d" % i for i in range(250)}
    found = {k: v for k, v in client.scan().items() if k in expected}
    check(f"{name}: every key and value comes", found == expected, len(found))
    found = {k for k in client.scan(keys_only=True) if k in expected}
    check(f"{name}: keys only", found == set(expected), len(found))


def test_range(name, client):
    plain = keys_of(name)("t")
    tag = b"{" + plain + b"}"
    for i in range(25):
        client.put(tag + b"%02d" % i, b"v")
    client.put(plain, b"v")  # without braces: the key is its own tag, the same one
    every = [tag + b"%02d" % i for i in range(25)]
    check(f"{name}: a hash tag in order", client.range(tag, prefix=tag) == [every])
    pages = client.range(tag, prefix=tag, count_max=10, keys_only=True)
    check(f"{name}: in pages", pages == [every[:10], every[10:20], every[20:]], pages)
    pages = client.range(tag, **{"from": every[3], "to": every[6]})
    check(f"{name}: between bounds", pages == [every[3:6]], pages)
    pages = client.range(tag, count_only=True)
    check(f"{name}: their number", pages == [26], pages)
    pages = client.range(tag, count_only=True, prefix=tag, count_max=20)
    check(f"{name}: their number in pages", pages == [20, 5], pages)


def test_atomic(name, client):
    tag = b"{" + keys_of(name)("a") + b"}"
    keys = [tag + b"1", tag + b"2"]
    put = data.Operation(mutation=data.MUTATION_PUT, value=b"v", want=1,
                         precondition=data.PRECONDITION_ABSENT).SerializeToString()
    batch = data.AtomicBatch(keys=keys, operations=[put, put]).SerializeToString()
    seq = client.seq
    first = client.one(ATOMIC, tag, batch)
    check(f"{name}: a batch is done", first[0] == OK and first[2] != (0, 0), first)
    client.seq = seq
    check(f"{name}: its repeat is answered alike", client.one(ATOMIC, tag, batch)[:3] == first[:3])
    status, _, _, value = client.one(ATOMIC, tag, batch)
    answer = data.AtomicAnswer.FromString(value)
    check(f"{name}: or nothing, and what is there", status == CONDITION and
          list(answer.statuses) == [CONDITION] * 2 and list(answer.values) == [b"v"] * 2, answer)
    check(f"{name}: both have its version",
          [client.get(k)[2:] for k in keys] == [(first[2], b"v")] * 2)
    other = data.AtomicBatch(keys=[tag, b"other"], operations=[put, put]).SerializeToString()
    check(f"{name}: two tags", client.one(ATOMIC, tag, other)[0] == USAGE)


def test_limits(name, client):
    check(f"{name}: key of 480 bytes", client.put(b"k" * 480, b"v")[0] == OK)
    check(f"{name}: key of 481 bytes", client.put(b"k" * 481, b"v")[0] in (TOOBIG, MALFORMED))
    status = client.put(b"", b"v")[0]
    check(f"{name}: empty key", status in (MALFORMED, USAGE), status)
    client.write(b"k" * 480, mutation=data.MUTATION_DELETE)


def test_small_questions(name, client):
    client.send(PING, data.Ping(nonce=77))
    check(f"{name}: ping", client.receive(PONG, data.Ping).nonce == 77)
    client.send(MAP_REQUEST, cluster.MapRequest())
    registers = {r.name: r for r in client.receive(MAP, cluster.Map).registers}
    value = cluster.ClusterValue.FromString(registers["cluster"].value)
    check(f"{name}: map", f"partition/{value.partition_count - 1}" in registers, len(registers))
    client.send(STATUS_REQUEST, data.Ping())
    check(f"{name}: status", client.receive(STATUS, cluster.Status).role == "router")


def test_nonsense(name, context, address):
    """Each gets a clear refusal, and nothing else is disturbed."""
    good = PREFIX + bytes([REQUEST, 0]) + data.Request(
        client_id=1, first_seq=1, kinds=[READ], keys=[b"k"], operations=[b""]).SerializeToString()
    frames = {
        "empty": (b"", MALFORMED),
        "short": (b"\xd7", MALFORMED),
        "foreign bytes": (b"GET / HTTP/1.1\r\n\r\n", MALFORMED),
        "random bytes": (b"\x00" + NOISE, MALFORMED),
        "random bytes in a request": (PREFIX + bytes([REQUEST, 0]) + NOISE, MALFORMED),
        "cut short": (good[:-3], MALFORMED),
        "bytes behind": (good + b"\xff\xff\xff", MALFORMED),
        "another version": (bytes([0xD7, 9, REQUEST, 0]) + good[4:], UNSUPPORTED),
        "unknown kind": (bytes([0xD7, 1, 200, 0]), UNSUPPORTED),
        "unequal arrays": (PREFIX + bytes([REQUEST, 0]) + data.Request(
            client_id=1, first_seq=1, kinds=[READ, READ], keys=[b"k"]).SerializeToString(),
                           MALFORMED),
    }
    for what, (frame, expected) in frames.items():
        client = Client(context, zmq.DEALER, address)
        client.socket.send(frame)
        refused = client.receive(REFUSED, data.Refused)
        check(f"{name}: {what}", refused.status == expected and refused.message != "", refused)
        client.hello()
        check(f"{name}: goes on after '{what}'", client.get(b"foreign:none")[0] == NOTFOUND)
        client.close()
    several = Client(context, zmq.DEALER, address)
    several.socket.send_multipart([b"one", b"two", b"three"])
    client = Client(context, zmq.DEALER, address)
    client.hello()
    check(f"{name}: several frames disturb nobody", client.get(b"foreign:none")[0] == NOTFOUND)
    several.close()
    client.close()


CASES = [test_hello, test_put_get, test_consistency, test_conditions, test_increments, test_batch,
         test_same_id_twice, test_outcome, test_scan, test_range, test_atomic, test_limits,
         test_message_of_many, test_small_questions]


def main():
    if len(sys.argv) != 2:
        print("usage: foreign.py ROUTER_ADDRESS", file=sys.stderr)
        return 2
    context = zmq.Context()
    for kind, word in ((zmq.DEALER, "DEALER"), (zmq.REQ, "REQ")):
        for run in CASES:
            client = Client(context, kind, sys.argv[1])
            name = f"{word} {run.__name__[5:]}"
            if run is not test_hello:
                case(name, lambda _, c: c.hello(), client)
            case(name, run, client)
            client.close()
    case("nonsense", lambda name: test_nonsense(name, context, sys.argv[1]))
    context.term()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
