/* Many operations at once: submit without waiting, answers come to a callback. duet_submit() waits by
 * itself while too many are under way, so that nothing grows without end. */
#include <duet.h>
#include <stdio.h>

#define COUNT 10000

/* Only the client's thread touches this until duet_drain() has returned. */
struct tally {
    int done, failed;
    char why[256];
};

static void on_answer(const struct duet_result *result, void *user)
{
    struct tally *tally = user;
    enum duet_code code = duet_result_code(result);
    if (code == DUET_OK) {
        tally->done++;
        return;
    }
    tally->failed++;
    snprintf(tally->why, sizeof tally->why, "%s", duet_code_text(code));
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
    if (options == NULL || duet_options_environment(options, &error) != DUET_OK)
        return fail(&error);
    struct duet_client *duet = duet_open(options, &error);
    duet_options_free(&options);
    if (duet == NULL)
        return fail(&error);

    struct tally tally = {0};
    for (int i = 0; i < COUNT; i++) {
        char key[32];
        snprintf(key, sizeof key, "example:pipeline:%d", i);
        struct duet_operation op = {
            .kind = DUET_PUT, .key = duet_text(key), .value = duet_text("some value")};
        /* Key and value are copied: key may be used again at once. */
        if (duet_submit(duet, &op, on_answer, &tally, &error) != DUET_OK)
            return fail(&error);
    }
    if (duet_drain(duet, 60000, &error) != DUET_OK)
        return fail(&error);
    printf("%d written, %d failed%s%s\n", tally.done, tally.failed, tally.failed > 0 ? ": " : "",
           tally.why);
    duet_close(&duet);
    return tally.failed == 0 ? 0 : 1;
}
