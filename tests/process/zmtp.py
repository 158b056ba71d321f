"""Zmtp: as much of ZeroMQ's protocol, and of protobuf, as it takes to say wrong things to a port.

Python's standard library only; shares no code with what it talks to.

    with Dealer("tcp://127.0.0.1:7400") as d:
        d.send(frame(PING, field64(1, 7)))
        kind, fields = parse(d.receive())
"""
import socket
import struct

MAGIC, VERSION = 0xD7, 1
HELLO, HELLO_REPLY, REQUEST, ANSWER, BATCH, RESULTS, REFUSED, PING, PONG = range(1, 10)
MAP_REQUEST, MAP, STATUS_REQUEST, STATUS = range(10, 14)
HEARTBEAT, PROMISE, PROMISED, APPEND, ACK = range(32, 37)

MALFORMED, UNSUPPORTED, WRONGCLUSTER = 7, 15, 27


def greeting(mechanism=b"NULL"):
    return b"\xff" + bytes(8) + b"\x7f\x03\x00" + mechanism.ljust(20, b"\0") + b"\0" + bytes(31)


def ready(socket_type=b"DEALER"):
    def pair(name, value):
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    body = b"\x05READY" + pair(b"Socket-Type", socket_type) + pair(b"Identity", b"")
    return bytes([4, len(body)]) + body


def wire_frame(body, more=False):
    flags = 1 if more else 0
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body


def open_tcp(address, timeout=10):
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    s = socket.create_connection((host, int(port)), timeout)
    s.settimeout(timeout)
    return s


class Dealer:
    def __init__(self, address, timeout=10):
        self.socket = open_tcp(address, timeout)
        self.socket.sendall(greeting())
        self._exactly(64)
        self.socket.sendall(ready())
        self._frame()  # its READY

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _exactly(self, size):
        got = b""
        while len(got) < size:
            part = self.socket.recv(size - len(got))
            if not part:
                raise ConnectionError("closed by the other end")
            got += part
        return got

    def _frame(self):
        flags, size = self._exactly(2)
        if flags & 2:
            size = struct.unpack(">Q", bytes([size]) + self._exactly(7))[0]
        return flags, self._exactly(size)

    def send(self, *frames):
        self.socket.sendall(b"".join(wire_frame(f, i + 1 < len(frames))
                                     for i, f in enumerate(frames)))

    def receive(self):
        """The frames of the next message."""
        frames = []
        while True:
            flags, body = self._frame()
            if flags & 4:
                continue  # a command: ZeroMQ's own business
            frames.append(body)
            if not flags & 1:
                return frames

    def ask(self, *frames):
        self.send(*frames)
        return parse(self.receive()[-1])


# ---------------------------------------------------------------------- protobuf


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, n):
    return varint(number << 3) + varint(n)


def field64(number, n):
    return varint(number << 3 | 1) + struct.pack("<Q", n)


def field_bytes(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def packed(number, numbers):
    return field_bytes(number, b"".join(varint(n) for n in numbers))


def packed64(number, numbers):
    return field_bytes(number, b"".join(struct.pack("<Q", n) for n in numbers))


def _take_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return n, at


def fields(data):
    """{number: [values]} of one message."""
    out, at = {}, 0
    while at < len(data):
        tag, at = _take_varint(data, at)
        if tag & 7 == 0:
            value, at = _take_varint(data, at)
        elif tag & 7 == 1:
            value, at = struct.unpack_from("<Q", data, at)[0], at + 8
        else:
            size, at = _take_varint(data, at)
            value, at = data[at:at + size], at + size
        out.setdefault(tag >> 3, []).append(value)
    return out


# ---------------------------------------------------------------------- messages


def frame(kind, body=b"", version=VERSION, magic=MAGIC):
    return bytes([magic, version, kind, 0]) + body


def parse(data):
    """(kind, fields) of a frame."""
    assert data[0] == MAGIC
    return data[2], fields(data[4:])


def hello(low=VERSION, high=VERSION, cluster=b""):
    return frame(HELLO, field(1, low) + field(2, high) + field(4, 1) + field_bytes(5, cluster) +
                 field64(6, 12345) + field_bytes(8, b"test"))


def put(value):
    """The bytes of one operation."""
    return field(2, 1) + field_bytes(4, value)


def request(client, first, operations, token, deadline_ms=2000, flags=1):
    """operations: (kind, key, bytes) each; one answer for all of them."""
    kinds, keys, bodies = zip(*operations)
    return frame(REQUEST, field64(1, client) + field(2, first) + field(3, first) +
                 field(4, token) + field(5, deadline_ms) + field(6, flags) + packed(7, kinds) +
                 b"".join(field_bytes(8, k) for k in keys) +
                 b"".join(field_bytes(9, b) for b in bodies))


def numbers(message, number):
    """A packed field of varints."""
    out, at = [], 0
    data = b"".join(message.get(number, []))
    while at < len(data):
        n, at = _take_varint(data, at)
        out.append(n)
    return out


def statuses(answer):
    """The status of each operation of an ANSWER, in the order of their numbers."""
    seqs = numbers(answer, 3)
    return [s for _, s in sorted(zip(seqs, numbers(answer, 4) or [0] * len(seqs)))]
