/* Keys that go by themselves: a session that lasts as long as its user comes back. */
#include <duet.h>
#include <stdio.h>

#define SESSION_MS 600000

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

/* A put that brings an expiry: duet_execute() does what a call has no parameter for. */
static enum duet_code begin(struct duet_client *duet, struct duet_slice key, const char *user,
                            struct duet_error *error)
{
    struct duet_operation op = {
        .kind = DUET_PUT, .key = key, .value = duet_text(user), .ttl_ms = SESSION_MS};
    return duet_execute(duet, &op, NULL, error);
}

/* Another value, the same expiry; and only while the session is there. */
static enum duet_code rename_user(struct duet_client *duet, struct duet_slice key, const char *user,
                                  struct duet_error *error)
{
    struct duet_operation op = {.kind = DUET_PUT,
                                .key = key,
                                .value = duet_text(user),
                                .keep_expiry = true,
                                .condition = {.when = DUET_IF_PRESENT}};
    return duet_execute(duet, &op, NULL, error);
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

    struct duet_slice key = duet_text("example:session");
    struct duet_expiry before, after;
    struct duet_result *last = NULL;
    /* The user comes back: more time from now on, but never less than there was. */
    struct duet_condition later = {.when = DUET_IF_LATER};
    if (begin(duet, key, "ann", &error) != DUET_OK ||
        rename_user(duet, key, "anna", &error) != DUET_OK ||
        duet_get_expiry(duet, key, &before, &error) != DUET_OK ||
        duet_expire(duet, key, 2 * SESSION_MS, 0, &later, NULL, &error) != DUET_OK ||
        duet_get_expiry(duet, key, &after, &error) != DUET_OK)
        return fail(&error);
    printf("the session has %s\n", after.left_ms > before.left_ms ? "more time" : "no more time");

    /* The end of a session, and who it was: one step, so that nobody else gets it too. */
    if (duet_get_del(duet, key, &last, &error) != DUET_OK)
        return fail(&error);
    printf("%s has left\n", (const char *)duet_result_value(last).data);
    duet_result_free(&last);
    duet_close(&duet);
    return before.left_ms > 0 && before.left_ms <= SESSION_MS ? 0 : 1;
}
