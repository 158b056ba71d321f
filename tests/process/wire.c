/* wire: a small network of its own, and everything that can be wrong with it.
 *
 *   wire SEED ADDRESS...                     IPv4 addresses of one /24, one for each host
 *
 * Each address gets a network namespace with a loopback device and a tunnel, and this program
 * carries the packets from tunnel to tunnel. So it can lose and delay them for each pair and
 * direction, on any kernel: not every one has netem, nor a packet filter. Nothing of the machine's
 * own network is touched, and all of it is gone when this program and those in its namespaces have
 * ended.
 *
 * Prints "host INDEX DESCRIPTOR" for each host: /proc/PID/fd/DESCRIPTOR is its namespace. Then
 * "ready". Reads lines "set FROM TO LOSS DELAY JITTER": of the packets from one host to another so
 * many in a thousand are lost, the others come DELAY ms later, and up to JITTER ms more (and may
 * overtake each other). When stdin ends it prints "figures {...}" and ends.
 * Exit code 77: no namespaces or tunnels here (no CAP_NET_ADMIN, no /dev/net/tun); it says which.
 */
#define _GNU_SOURCE /* unshare */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"

#define HOSTS_MAX    32
#define PACKET_BYTES 1500
#define DELAYED_MAX  65536 /* packets; what comes then is lost, as in any queue */
#define BURST_MAX    64
#define NOT_ALLOWED  77

struct host {
    int namespace_fd, tunnel;
    uint32_t address; /* as it stands in a packet */
};

struct path {
    uint32_t loss, delay_ms, jitter_ms;
};

struct packet {
    uint64_t due_ms, order; /* of those that are due together, the first one first */
    uint32_t to;
    size_t size;
    unsigned char bytes[PACKET_BYTES];
};

struct wire {
    struct host hosts[HOSTS_MAX];
    uint32_t hosts_count;
    struct path paths[HOSTS_MAX][HOSTS_MAX];
    uint64_t random, order;
    struct packet *delayed[DELAYED_MAX]; /* a heap, the next one on top */
    size_t delayed_count;
    uint64_t carried, lost, late;
    char line[128]; /* what came of a command */
    size_t line_size;
};

static void not_allowed(const char *what)
{
    printf("wire: %s: %s\n", what, strerror(errno));
    exit(NOT_ALLOWED);
}

static uint32_t draw(struct wire *w, uint32_t below)
{
    /* xorshift64* */
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return (uint32_t)((w->random * 0x2545f4914f6cdd1du) >> 33) % below;
}

/* ------------------------------------------------------------------ hosts */

static void device_up(int sock, const char *name)
{
    struct ifreq r = {0};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(sock, SIOCSIFFLAGS, &r) != 0)
        not_allowed("cannot switch a network device on");
}

static void device_address(int sock, const char *name, unsigned long request, const char *address)
{
    struct ifreq r = {0};
    struct sockaddr_in in = {.sin_family = AF_INET};
    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    ENSURE(inet_pton(AF_INET, address, &in.sin_addr) == 1);
    memcpy(&r.ifr_addr, &in, sizeof in);
    if (ioctl(sock, request, &r) != 0)
        not_allowed("cannot give a network device its address");
}

static int tunnel_open(void)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(r.ifr_name, sizeof r.ifr_name, "wire");
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0)
        not_allowed("cannot open a tunnel (/dev/net/tun)");
    return fd;
}

/* Leaves this program in the namespace of the host; a tunnel works from anywhere. */
static void host_make(struct host *h, const char *address)
{
    if (unshare(CLONE_NEWNET) != 0)
        not_allowed("cannot make a network namespace");
    h->namespace_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    h->tunnel = tunnel_open();
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ENSURE(h->namespace_fd >= 0 && sock >= 0);
    device_up(sock, "lo");
    device_address(sock, "wire", SIOCSIFADDR, address);
    device_address(sock, "wire", SIOCSIFNETMASK, "255.255.255.0");
    device_up(sock, "wire");
    close(sock);
    ENSURE(inet_pton(AF_INET, address, &h->address) == 1);
}

/* ------------------------------------------------------------------ packets that wait */

static bool packet_before(const struct packet *a, const struct packet *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void delayed_swap(struct wire *w, size_t i, size_t k)
{
    struct packet *p = w->delayed[i];
    w->delayed[i] = w->delayed[k];
    w->delayed[k] = p;
}

static void delayed_add(struct wire *w, struct packet *p)
{
    size_t at = w->delayed_count++;
    w->delayed[at] = p;
    for (; at > 0 && packet_before(w->delayed[at], w->delayed[(at - 1) / 2]); at = (at - 1) / 2)
        delayed_swap(w, at, (at - 1) / 2);
}

static struct packet *delayed_take(struct wire *w)
{
    struct packet *taken = w->delayed[0];
    w->delayed[0] = w->delayed[--w->delayed_count];
    for (size_t at = 0, next; (next = 2 * at + 1) < w->delayed_count; at = next) {
        if (next + 1 < w->delayed_count &&
            packet_before(w->delayed[next + 1], w->delayed[next]))
            next++;
        if (!packet_before(w->delayed[next], w->delayed[at]))
            break;
        delayed_swap(w, at, next);
    }
    return taken;
}

/* ------------------------------------------------------------------ carrying */

/* A tunnel whose host does not read, or has gone, loses packets as any device does. */
static void deliver(struct wire *w, uint32_t to, const void *bytes, size_t size)
{
    bool taken = write(w->hosts[to].tunnel, bytes, size) == (ssize_t)size;
    w->carried += taken;
    w->lost += !taken;
}

static void delay(struct wire *w, const struct path *path, uint32_t to, const void *bytes,
                  size_t size)
{
    struct packet *p = w->delayed_count < DELAYED_MAX ? malloc(sizeof *p) : NULL;
    if (p == NULL) {
        w->lost++;
        return;
    }
    /* The clock cuts off a part of a millisecond: one more, and nothing comes too early. */
    p->due_ms = clock_now_ms() + 1 + path->delay_ms + draw(w, path->jitter_ms + 1);
    p->order = w->order++;
    p->to = to;
    p->size = size;
    memcpy(p->bytes, bytes, size);
    delayed_add(w, p);
    w->late++;
}

/* The receiver of an IPv4 packet; hosts_count: none of ours. */
static uint32_t receiver(const struct wire *w, const unsigned char *bytes, size_t size)
{
    uint32_t to = 0, address;
    if (size < 20 || bytes[0] >> 4 != 4)
        return w->hosts_count;
    memcpy(&address, bytes + 16, sizeof address);
    while (to < w->hosts_count && w->hosts[to].address != address)
        to++;
    return to;
}

static void carry(struct wire *w, uint32_t from, const unsigned char *bytes, size_t size)
{
    uint32_t to = receiver(w, bytes, size);
    if (to == w->hosts_count)
        return;
    const struct path *path = &w->paths[from][to];
    if (path->loss > 0 && draw(w, 1000) < path->loss)
        w->lost++;
    else if (path->delay_ms + path->jitter_ms > 0)
        delay(w, path, to, bytes, size);
    else
        deliver(w, to, bytes, size);
}

static void carry_from(struct wire *w, uint32_t from)
{
    unsigned char bytes[PACKET_BYTES];
    for (int i = 0; i < BURST_MAX; i++) {
        ssize_t size = read(w->hosts[from].tunnel, bytes, sizeof bytes);
        if (size <= 0)
            return;
        carry(w, from, bytes, (size_t)size);
    }
}

static void deliver_due(struct wire *w)
{
    uint64_t now = clock_now_ms();
    while (w->delayed_count > 0 && w->delayed[0]->due_ms <= now) {
        struct packet *p = delayed_take(w);
        deliver(w, p->to, p->bytes, p->size);
        free(p);
    }
}

/* ------------------------------------------------------------------ commands */

static void command(struct wire *w, const char *line)
{
    uint32_t from, to;
    struct path p;
    if (sscanf(line, "set %u %u %u %u %u", &from, &to, &p.loss, &p.delay_ms, &p.jitter_ms) != 5 ||
        from >= w->hosts_count || to >= w->hosts_count || p.loss > 1000) {
        fprintf(stderr, "wire: what is '%s'?\n", line);
        exit(2);
    }
    w->paths[from][to] = p;
}

/* False at the end of stdin. */
static bool commands_read(struct wire *w)
{
    ssize_t got = read(STDIN_FILENO, w->line + w->line_size, sizeof w->line - 1 - w->line_size);
    if (got <= 0)
        return false;
    w->line_size += (size_t)got;
    w->line[w->line_size] = '\0';
    for (char *end; (end = strchr(w->line, '\n')) != NULL;) {
        *end = '\0';
        command(w, w->line);
        w->line_size -= (size_t)(end + 1 - w->line);
        memmove(w->line, end + 1, w->line_size + 1);
    }
    return true;
}

/* ------------------------------------------------------------------ main */

static int wait_ms(const struct wire *w)
{
    if (w->delayed_count == 0)
        return -1;
    uint64_t now = clock_now_ms(), due = w->delayed[0]->due_ms;
    return due <= now ? 0 : (int)(due - now);
}

static void work(struct wire *w)
{
    struct pollfd polled[HOSTS_MAX + 1];
    for (uint32_t i = 0; i < w->hosts_count; i++)
        polled[i] = (struct pollfd){.fd = w->hosts[i].tunnel, .events = POLLIN};
    polled[w->hosts_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        int ready = poll(polled, w->hosts_count + 1, wait_ms(w));
        ENSURE(ready >= 0 || errno == EINTR);
        deliver_due(w);
        if (ready <= 0)
            continue;
        if (polled[w->hosts_count].revents != 0 && !commands_read(w))
            return;
        for (uint32_t i = 0; i < w->hosts_count; i++)
            if (polled[i].revents & POLLIN)
                carry_from(w, i);
    }
}

int main(int argc, char **argv)
{
    static struct wire w;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3 || argc - 2 > HOSTS_MAX) {
        fprintf(stderr, "wire: give a seed and 1 to %d addresses; see the head of "
                        "tests/process/wire.c\n", HOSTS_MAX);
        return 2;
    }
    w.random = (strtoull(argv[1], NULL, 10) + 1) * 0x9e3779b97f4a7c15u | 1;
    for (; w.hosts_count < (uint32_t)argc - 2; w.hosts_count++) {
        host_make(&w.hosts[w.hosts_count], argv[w.hosts_count + 2]);
        printf("host %u %d\n", w.hosts_count, w.hosts[w.hosts_count].namespace_fd);
    }
    printf("ready\n");
    work(&w);
    printf("figures {\"carried\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"late\": %" PRIu64 "}\n",
           w.carried, w.lost, w.late);
    while (w.delayed_count > 0)
        free(delayed_take(&w));
    return 0;
}
