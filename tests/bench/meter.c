#include "tests/bench/meter.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/ensure.h"

void meter_init(struct meter *m, uint32_t keys_count, uint64_t now_ns)
{
    ENSURE(keys_count >= 1 && keys_count <= METER_KEYS_MAX);
    memset(m, 0, sizeof *m);
    m->keys_count = keys_count;
    for (uint32_t i = 0; i < keys_count; i++)
        m->acknowledged_ns[i] = now_ns;
}

void meter_acknowledge(struct meter *m, uint32_t key, uint64_t now_ns)
{
    ENSURE(key < m->keys_count && now_ns >= m->acknowledged_ns[key]);
    uint64_t gap_ns = now_ns - m->acknowledged_ns[key];
    if (gap_ns > m->gap_ns[key])
        m->gap_ns[key] = gap_ns;
    m->acknowledged_ns[key] = now_ns;
    m->acknowledged++;
}

void meter_mark(struct meter *m)
{
    memset(m->gap_ns, 0, sizeof m->gap_ns);
    m->acknowledged = m->failed = m->in_doubt = 0;
}

uint64_t meter_worst_ns(const struct meter *m)
{
    uint64_t worst_ns = 0;
    for (uint32_t i = 0; i < m->keys_count; i++)
        if (m->gap_ns[i] > worst_ns)
            worst_ns = m->gap_ns[i];
    return worst_ns;
}

uint64_t meter_open_ns(const struct meter *m, uint64_t now_ns)
{
    uint64_t open_ns = 0;
    for (uint32_t i = 0; i < m->keys_count; i++)
        if (now_ns - m->acknowledged_ns[i] > open_ns)
            open_ns = now_ns - m->acknowledged_ns[i];
    return open_ns;
}

void meter_print(const struct meter *m, uint64_t now_ns, FILE *to)
{
    fprintf(to,
            "{\"worst_ms\": %.1f, \"open_ms\": %.1f, \"acknowledged\": %" PRIu64
            ", \"failed\": %" PRIu64 ", \"in_doubt\": %" PRIu64 ", \"gaps_ms\": [",
            (double)meter_worst_ns(m) / 1e6, (double)meter_open_ns(m, now_ns) / 1e6,
            m->acknowledged, m->failed, m->in_doubt);
    for (uint32_t i = 0; i < m->keys_count; i++)
        fprintf(to, "%s%.1f", i > 0 ? ", " : "", (double)m->gap_ns[i] / 1e6);
    fprintf(to, "]}");
}

bool meter_obey(struct meters *all)
{
    char command[64];
    ssize_t size = read(STDIN_FILENO, command, sizeof command);
    if (size <= 0)
        return false;
    uint64_t now_ns = clock_now_ns();
    printf("{\"writes\": ");
    meter_print(&all->writes, now_ns, stdout);
    printf(", \"reads\": ");
    meter_print(&all->reads, now_ns, stdout);
    printf(", \"late_ms\": %.1f}\n", (double)all->late_ns / 1e6);
    fflush(stdout);
    if (size >= 4 && memcmp(command, "mark", 4) == 0) {
        meter_mark(&all->writes);
        meter_mark(&all->reads);
        all->late_ns = 0;
    }
    return true;
}
