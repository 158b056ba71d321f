/* Your own loop, with poll(): the client has no thread, everything happens in this one. */
#include <duet.h>
#include <poll.h>
#include <stdio.h>

#define CHAIN 100

struct chain {
    struct duet_client *duet;
    int left;
    bool failed;
};

/* Each answer submits the next operation. */
static void on_answer(const struct duet_result *result, void *user)
{
    struct chain *chain = user;
    struct duet_operation op = {
        .kind = DUET_INCR, .key = duet_text("example:chain"), .delta = 1};
    if (duet_result_code(result) != DUET_OK)
        chain->failed = true;
    else if (--chain->left > 0)
        chain->failed = duet_submit(chain->duet, &op, on_answer, chain, NULL) != DUET_OK;
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
    struct duet_client *duet = duet_open(options, &error);
    duet_options_free(&options);
    if (duet == NULL)
        return fail(&error);

    struct chain chain = {.duet = duet, .left = CHAIN};
    struct duet_operation first = {
        .kind = DUET_INCR, .key = duet_text("example:chain"), .delta = 1};
    if (duet_submit(duet, &first, on_answer, &chain, &error) != DUET_OK)
        return fail(&error);
    /* The descriptor also tells of deadlines: no timeout is needed. */
    struct pollfd watched = {.fd = duet_client_fd(duet), .events = POLLIN};
    while (chain.left > 0 && !chain.failed) {
        poll(&watched, 1, -1);
        duet_client_dispatch(duet, NULL);
    }
    printf("%d operations, one after the other, without a thread\n", CHAIN - chain.left);
    duet_close(&duet);
    return chain.failed ? 1 : 0;
}
