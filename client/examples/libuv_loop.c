/* Inside of a libuv program: a timer writes, the answers come in the same loop. */
#include <duet.h>
#include <stdio.h>
#include <uv.h>

#define TICKS 20

struct program {
    struct duet_client *duet;
    uv_poll_t socket;
    uv_timer_t timer;
    int submitted, answered, failed;
};

static void on_readable(uv_poll_t *socket, int status, int events)
{
    struct program *p = socket->data;
    (void)status;
    (void)events;
    duet_client_dispatch(p->duet, NULL);
}

static void on_answer(const struct duet_result *result, void *user)
{
    struct program *p = user;
    p->answered++;
    p->failed += duet_result_code(result) != DUET_OK;
    if (p->answered == TICKS)
        uv_poll_stop(&p->socket); /* nothing is left to wait for: the loop ends */
}

static void on_tick(uv_timer_t *timer)
{
    struct program *p = timer->data;
    struct duet_operation op = {
        .kind = DUET_PUT, .key = duet_text("example:tick"), .value = duet_text("tock")};
    if (duet_submit(p->duet, &op, on_answer, p, NULL) == DUET_OK && ++p->submitted == TICKS)
        uv_timer_stop(timer);
}

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

int main(void)
{
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *options = duet_options_new();
    if (options == NULL || duet_options_environment(options, &error) != DUET_OK ||
        duet_options_set(options, "loop", "caller", &error) != DUET_OK)
        return fail(&error);
    struct program p = {.duet = duet_open(options, &error)};
    duet_options_free(&options);
    if (p.duet == NULL)
        return fail(&error);

    uv_loop_t *loop = uv_default_loop();
    uv_poll_init(loop, &p.socket, duet_client_fd(p.duet));
    uv_timer_init(loop, &p.timer);
    p.socket.data = p.timer.data = &p;
    uv_poll_start(&p.socket, UV_READABLE, on_readable);
    uv_timer_start(&p.timer, on_tick, 0, 5);
    uv_run(loop, UV_RUN_DEFAULT);

    printf("%d ticks, %d answers, %d failed\n", p.submitted, p.answered, p.failed);
    uv_close((uv_handle_t *)&p.socket, NULL);
    uv_close((uv_handle_t *)&p.timer, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    uv_loop_close(loop);
    duet_close(&p.duet);
    return p.failed == 0 && p.answered == TICKS ? 0 : 1;
}
