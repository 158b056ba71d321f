"""The network of network.py itself: what is lost, delayed or cut off is so in the direction that
was said and in no other, and is well again afterwards. A test of partitions is worth no more."""
import time

import network
import scenario
from network import Network, NotAllowed, Path

SENT = 500
BURST = 100  # sockets and tunnels hold so many


def arrivals(net, ways, count=SENT):
    """Send count datagrams each way, (from, to): how many came, the ms that the fastest took."""
    came = {}
    for way in ways:
        with net.socket(way[0]) as out, net.socket(way[1]) as into:
            took = []
            for first in range(0, count, BURST):
                burst = min(BURST, count - first)
                for _ in range(burst):
                    out.sendto(repr(time.monotonic()).encode(), into.getsockname())
                took += receive(into, burst)
            came[way] = len(took), min(took, default=0)
    return came


def receive(into, most):
    """How many ms each one took, until all came or nothing does for a second."""
    took = []
    into.settimeout(1)
    try:
        while len(took) < most:
            sent = float(into.recv(100))
            took.append(1000 * (time.monotonic() - sent))
    except TimeoutError:
        pass
    return took


def main(run):
    try:
        net = Network(run, hosts=3, seed=1)
    except NotAllowed as why:
        run.skip(f"no network of its own on this machine, {why}")
        run.check(True, "the network says what it lacks")
        return
    with net:
        ways = [(0, 1), (1, 0), (1, 2), (2, 0)]
        came = arrivals(net, ways)
        run.check(all(n == SENT and ms < 80 for n, ms in came.values()),
                  f"a network that is well: {came}")

        net.set({(0, 1): Path(loss=1000)})
        came = {way: n for way, (n, _) in arrivals(net, ways, 50).items()}
        run.check(came == {(0, 1): 0, (1, 0): 50, (1, 2): 50, (2, 0): 50},
                  "cut off: in one direction between two hosts, and nowhere else")

        net.set({(1, 0): Path(loss=300), (2, 0): Path(delay_ms=80, jitter_ms=40)})
        came = arrivals(net, ways)
        run.check(came[0, 1][0] == SENT and came[1, 2][0] == SENT, "that is over")
        run.check(SENT * 0.2 < SENT - came[1, 0][0] < SENT * 0.4,
                  f"30 % loss: {SENT - came[1, 0][0]} of {SENT}")
        lost = SENT - came[1, 0][0]
        run.check(came[2, 0][0] == SENT and came[2, 0][1] >= 80,
                  f"80 to 120 ms late, all there: {came[2, 0][1]:.1f} ms at least")

        net.set({})
        came = arrivals(net, ways, 50)
        run.check(all(n == 50 for n, _ in came.values()) and came[2, 0][1] < 80,
                  "all is well again")
        figures = net.finish()
        run.check(figures["late"] == SENT and figures["lost"] == 50 + lost,
                  f"the network's own figures: {figures}")


network.become_root_of_own()
scenario.run(main, __doc__)
