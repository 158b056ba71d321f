/* ping: is each router there, and how long does it take? Answered by the loop that serves. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/style.h"
#include "client/options.h"
#include "proto/base/arena.h"
#include "proto/base/clock.h"
#include "proto/base/histogram.h"
#include "proto/codec.h"
#include "proto/link.h"

#define COUNT_MAX        10000000
#define COUNT_HISTOGRAM  1000
#define LOOK_MS          10 /* connecting shows on no descriptor, so it is looked at this often */
#define PING_WAIT_MAX_MS 1500
#define BAR_WIDTH        40
#define BAR_WIDTH_MIN    5
#define BAR_LEFT         40 /* columns before it */
#define POWERS           64

/* One router. */
struct echo {
    const char *address;
    struct link *link;
    uint64_t wait_ms, lost;
    struct histogram histogram; /* ns */
    uint64_t powers[POWERS];    /* samples from 2^i ns to below 2^(i+1) */
    struct error error;         /* of the last one that was lost */
};

static bool wait_connected(struct echo *e)
{
    uint64_t end_ms = clock_now_ms() + e->wait_ms;
    while (!link_connected(e->link)) {
        if (clock_now_ms() >= end_ms)
            return false;
        struct pollfd fd = {.fd = link_fd(e->link), .events = POLLIN};
        poll(&fd, 1, LOOK_MS);
    }
    return true;
}

static bool send_ping(struct echo *e, uint64_t nonce)
{
    struct ping ping = {.nonce = nonce};
    struct buffer frame;
    buffer_init(&frame, 256);
    bool sent = codec_pack_ping(MESSAGE_PING, &ping, &frame) == STATUS_OK &&
                link_send(e->link, NULL, &frame) == STATUS_OK;
    buffer_fini(&frame);
    return sent;
}

/* The PONG with this nonce; others are late ones. */
static bool wait_pong(struct echo *e, uint64_t nonce, struct arena *arena)
{
    uint64_t end_ms = clock_now_ms() + e->wait_ms;
    for (;;) {
        struct link_peer peer;
        struct bytes frame;
        struct ping pong;
        enum message_kind kind = 0;
        while (link_recv(e->link, &peer, &frame) == STATUS_OK) {
            arena_reset(arena, 4096);
            if (codec_peek(frame, &kind) != STATUS_OK || kind != MESSAGE_PONG)
                error_set(&e->error, STATUS_MALFORMED, "answers something else");
            else if (codec_unpack_ping(frame, arena, &pong) == STATUS_OK && pong.nonce == nonce)
                return true;
        }
        uint64_t now_ms = clock_now_ms();
        if (now_ms >= end_ms || command_interrupted)
            return false;
        struct pollfd fd = {.fd = link_fd(e->link), .events = POLLIN};
        if (!link_readable(e->link))
            poll(&fd, 1, (int)(end_ms - now_ms));
    }
}

static void ping_once(struct echo *e, uint64_t nonce, struct arena *arena)
{
    uint64_t begin_ns = clock_now_ns();
    if (!send_ping(e, nonce) || !wait_pong(e, nonce, arena)) {
        e->lost++;
        return;
    }
    uint64_t took_ns = clock_now_ns() - begin_ns;
    histogram_add(&e->histogram, took_ns);
    e->powers[63 - __builtin_clzll(took_ns | 1)]++;
}

static void ping_router(struct echo *e, struct link_context *context, uint64_t count)
{
    struct arena arena;
    arena_init(&arena);
    histogram_init(&e->histogram);
    error_set(&e->error, STATUS_NOCONNECTION, "does not answer");
    e->link = link_connect(context, LINK_CLIENT, e->address, &e->error);
    if (e->link != NULL && wait_connected(e))
        for (uint64_t i = 1; i <= count && e->lost == 0 && !command_interrupted; i++)
            ping_once(e, i, &arena);
    link_destroy(&e->link);
    arena_fini(&arena);
}

static double quantile_ms(const struct echo *e, uint32_t per_10000)
{
    return (double)histogram_quantile(&e->histogram, per_10000) / 1e6;
}

static json_t *echo_json(const struct echo *e)
{
    json_t *object = json_object();
    json_object_set_new(object, "router", json_string(e->address));
    json_object_set_new(object, "answers", json_boolean(e->histogram.count > 0 && e->lost == 0));
    json_object_set_new(object, "count", json_integer((json_int_t)e->histogram.count));
    if (e->histogram.count == 0)
        return object;
    json_object_set_new(object, "ms", json_real(quantile_ms(e, 5000)));
    json_object_set_new(object, "p90_ms", json_real(quantile_ms(e, 9000)));
    json_object_set_new(object, "p99_ms", json_real(quantile_ms(e, 9900)));
    json_object_set_new(object, "max_ms", json_real(quantile_ms(e, 10000)));
    return object;
}

static void print_bars(const struct echo *e)
{
    uint64_t most = 1;
    int width = style_width(STDOUT_FILENO);
    int room = width == 0 || width > BAR_LEFT + BAR_WIDTH ? BAR_WIDTH : width - BAR_LEFT - 1;
    if (room < BAR_WIDTH_MIN)
        room = BAR_WIDTH_MIN;
    for (int i = 0; i < POWERS; i++)
        most = e->powers[i] > most ? e->powers[i] : most;
    for (int i = 0; i < POWERS; i++) {
        if (e->powers[i] == 0)
            continue;
        int bar = (int)((e->powers[i] * (uint64_t)room + most - 1) / most);
        printf("  %10.3f to %10.3f ms %8llu  %.*s\n", (double)(UINT64_C(1) << i) / 1e6,
               (double)(UINT64_C(2) << i) / 1e6, (unsigned long long)e->powers[i], bar,
               "########################################");
    }
}

static void print_echo(const struct context *c, const struct echo *e)
{
    if (e->histogram.count == 0)
        printf("%s  %s\n", e->address, e->error.message);
    else if (e->histogram.count == 1)
        printf("%s  %.2f ms\n", e->address, quantile_ms(e, 10000));
    else
        printf("%s  %llu pings\n  p50 %.3f  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms\n",
               e->address, (unsigned long long)e->histogram.count, quantile_ms(e, 5000),
               quantile_ms(e, 9000), quantile_ms(e, 9900), quantile_ms(e, 9990),
               quantile_ms(e, 10000));
    if (e->lost > 0 && e->histogram.count > 0)
        printf("  then one was not answered\n");
    if (c->flags.histogram && e->histogram.count > 0)
        print_bars(e);
}

/* 0, or 3 when some router does not answer. */
static int ping_all(struct context *c, const struct duet_options *options, uint64_t count)
{
    struct link_context *context = link_context_new(1, true);
    struct echo *e = malloc(sizeof *e);
    json_t *list = json_array();
    int exit_code = 0;
    for (uint32_t i = 0; context != NULL && e != NULL && i < options->routers_count; i++) {
        *e = (struct echo){.address = options->routers[i], .wait_ms = c->flags.timeout};
        if (e->wait_ms > PING_WAIT_MAX_MS)
            e->wait_ms = PING_WAIT_MAX_MS;
        ping_router(e, context, count);
        if (command_json(c))
            json_array_append_new(list, echo_json(e));
        else
            print_echo(c, e);
        if (e->lost > 0 || e->histogram.count == 0)
            exit_code = 3;
    }
    if (command_json(c))
        command_print_json_list(c, list);
    else
        json_decref(list);
    link_context_destroy(&context);
    free(e);
    return exit_code;
}

int ping_run(struct context *c)
{
    struct duet_error error;
    uint64_t count = c->flags.count;
    if (count == 0)
        count = c->flags.histogram ? COUNT_HISTOGRAM : 1;
    if (count > COUNT_MAX)
        return command_fail(DUET_USAGE, "--count: %llu is not from 1 to %d",
                            (unsigned long long)count, COUNT_MAX);
    struct duet_options *options = duet_options_new();
    if (options == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    int exit_code = duet_options_set(options, "routers", c->routers, &error) == DUET_OK
                        ? ping_all(c, options, count)
                        : command_fail_routers(c, error.code, error.message);
    duet_options_free(&options);
    return exit_code;
}
