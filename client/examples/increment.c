/* Increments happen exactly once. The library repeats them under the same id, through another router
 * when one is lost; here we only have to tell "not done" (say it again) from "in doubt" (ask). */
#include <duet.h>
#include <stdio.h>

#define TIMES 1000

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

/* What became of the write? Until somebody answers: while nobody does, it is in doubt. */
static enum duet_code ask(struct duet_client *duet, struct duet_id id, struct duet_slice key,
                          struct duet_error *error)
{
    enum duet_code code;
    do
        code = duet_outcome(duet, id, key, NULL, error);
    while (code != DUET_OK && (error->flags & DUET_RETRYABLE) != 0);
    return code;
}

/* One increment, whatever happens to routers meanwhile. */
static enum duet_code increment(struct duet_client *duet, struct duet_slice key,
                                struct duet_error *error)
{
    for (;;) {
        struct duet_result *result = NULL;
        enum duet_code code = duet_incr(duet, key, 1, NULL, &result, error);
        struct duet_id id = result != NULL ? duet_result_id(result) : (struct duet_id){0, 0};
        duet_result_free(&result);
        if (code != DUET_OK && (error->flags & DUET_IN_DOUBT) != 0)
            code = ask(duet, id, key, error);
        /* DUET_ABORTED: it did not happen and never will. */
        bool again = code == DUET_ABORTED || (error->flags & DUET_RETRYABLE) != 0;
        if (code == DUET_OK || !again)
            return code;
    }
}

int main(void)
{
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *options = duet_options_new();
    if (options == NULL || duet_options_environment(options, &error) != DUET_OK)
        return fail(&error);
    struct duet_client *duet = duet_open(options, &error);
    duet_options_free(&options);
    if (duet == NULL)
        return fail(&error);

    struct duet_slice key = duet_text("example:hits");
    int64_t before = 0, after = 0;
    if (duet_incr(duet, key, 0, &before, NULL, &error) != DUET_OK)
        return fail(&error);
    for (int i = 0; i < TIMES; i++)
        if (increment(duet, key, &error) != DUET_OK)
            return fail(&error);
    if (duet_incr(duet, key, 0, &after, NULL, &error) != DUET_OK)
        return fail(&error);
    printf("%d increments, the counter went up by %lld\n", TIMES, (long long)(after - before));
    duet_close(&duet);
    return after - before == TIMES ? 0 : 1;
}
