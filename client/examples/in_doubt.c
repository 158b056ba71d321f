/* The third outcome. A write without an answer before its deadline may or may not have happened; its
 * id tells later which. The deadlines here are far too short on purpose. */
#include <duet.h>
#include <stdio.h>

#define WRITES 200

/* What became of one write. */
struct write {
    enum duet_code code;
    uint32_t flags;
    struct duet_id id;
};

static void on_answer(const struct duet_result *result, void *user)
{
    struct write *write = user;
    *write = (struct write){duet_result_code(result), duet_result_flags(result),
                            duet_result_id(result)};
}

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

/* Increment with 2 ms of time. Did it happen? *ret_doubts counts those that had to be asked for. */
static enum duet_code increment(struct duet_client *duet, struct duet_slice key, bool *ret_happened,
                                int *ret_doubts, struct duet_error *error)
{
    struct write write = {0};
    struct duet_operation op = {.kind = DUET_INCR, .key = key, .delta = 1, .timeout_ms = 2};
    enum duet_code code = duet_submit(duet, &op, on_answer, &write, error);
    if (code == DUET_OK)
        code = duet_drain(duet, 60000, error);
    if (code != DUET_OK)
        return code;
    if ((write.flags & DUET_IN_DOUBT) != 0) {
        ++*ret_doubts;
        write.code = duet_outcome(duet, write.id, key, NULL, error); /* with 5 s of time */
        if (write.code != DUET_OK && write.code != DUET_ABORTED)
            return write.code;
    }
    /* Every other code says: it did not happen and never will. */
    *ret_happened = write.code == DUET_OK;
    return DUET_OK;
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

    struct duet_slice key = duet_text("example:doubt");
    int64_t before = 0, after = 0;
    int happened = 0, doubts = 0;
    if (duet_incr(duet, key, 0, &before, NULL, &error) != DUET_OK)
        return fail(&error);
    for (int i = 0; i < WRITES; i++) {
        bool this_one = false;
        if (increment(duet, key, &this_one, &doubts, &error) != DUET_OK)
            return fail(&error);
        happened += this_one;
    }
    if (duet_incr(duet, key, 0, &after, NULL, &error) != DUET_OK)
        return fail(&error);
    printf("%d writes, %d in doubt at first; %d happened, the counter went up by %lld\n", WRITES,
           doubts, happened, (long long)(after - before));
    duet_close(&duet);
    return after - before == happened ? 0 : 1;
}
