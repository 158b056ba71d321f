#include "client/cli/ask.h"

#include <poll.h>
#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/link.h"

#define TURN_MS 20 /* connecting shows on no descriptor, so it is looked at this often */

#define GRACE_MS 800 /* that the others have when one has answered: then it is not the network */

struct line {
    struct link *link;
    bool sent;
    uint64_t sent_ns;
};

static void start(struct link_context *context, struct ask *a, struct line *line)
{
    a->answered = false;
    buffer_init(&a->answer, FRAME_BYTES_MAX);
    error_set(&a->error, STATUS_NOCONNECTION, "does not answer");
    if (!a->skip)
        line->link = link_connect(context, LINK_CLIENT, a->address, &a->error);
}

static void send_question(struct ask *a, struct line *line)
{
    struct buffer frame;
    buffer_init(&frame, FRAME_BYTES_MAX);
    if (buffer_append(&frame, a->question) == STATUS_OK) {
        line->sent_ns = clock_now_ns();
        line->sent = link_send(line->link, NULL, &frame) == STATUS_OK;
    }
    buffer_fini(&frame);
}

/* Returns whether an answer is there now. */
static bool step(struct ask *a, struct line *line)
{
    if (a->answered || line->link == NULL)
        return a->answered;
    if (!line->sent && link_connected(line->link))
        send_question(a, line);
    struct link_peer peer;
    struct bytes frame;
    if (link_recv(line->link, &peer, &frame) != STATUS_OK)
        return false;
    a->elapsed_ns = clock_now_ns() - line->sent_ns;
    a->answered =
        codec_peek(frame, &a->kind) == STATUS_OK && buffer_append(&a->answer, frame) == STATUS_OK;
    if (!a->answered)
        error_set(&a->error, STATUS_MALFORMED, "answers, but not in Duet's protocol");
    return a->answered;
}

static void wait_a_turn(const struct line *lines, struct pollfd *fds, size_t count)
{
    nfds_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (lines[i].link != NULL)
            fds[used++] = (struct pollfd){.fd = link_fd(lines[i].link), .events = POLLIN};
    poll(fds, used, TURN_MS);
}

static size_t run(struct ask *asks, struct line *lines, struct pollfd *fds, size_t count,
                  uint64_t timeout_ms)
{
    uint64_t end_ms = clock_now_ms() + timeout_ms;
    bool any = false;
    for (;;) {
        size_t answered = 0, skipped = 0;
        for (size_t i = 0; i < count; i++) {
            answered += step(&asks[i], &lines[i]);
            skipped += asks[i].skip;
        }
        uint64_t now_ms = clock_now_ms();
        if (answered + skipped == count || now_ms >= end_ms)
            return answered;
        if (answered > 0 && !any)
            end_ms = now_ms + GRACE_MS < end_ms ? now_ms + GRACE_MS : end_ms;
        any = any || answered > 0;
        wait_a_turn(lines, fds, count);
    }
}

size_t ask_all(struct ask *asks, size_t count, uint64_t timeout_ms)
{
    struct link_context *context = link_context_new(1, true);
    struct line *lines = calloc(count + 1, sizeof *lines);
    struct pollfd *fds = calloc(count + 1, sizeof *fds);
    size_t answered = 0;
    if (context != NULL && lines != NULL && fds != NULL) {
        for (size_t i = 0; i < count; i++)
            start(context, &asks[i], &lines[i]);
        answered = run(asks, lines, fds, count, timeout_ms);
        for (size_t i = 0; i < count; i++)
            link_destroy(&lines[i].link);
    }
    link_context_destroy(&context);
    free(lines);
    free(fds);
    return answered;
}
