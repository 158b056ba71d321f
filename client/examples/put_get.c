/* Put, get, delete: the calls that wait. */
#include <duet.h>
#include <stdio.h>

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

int main(void)
{
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *options = duet_options_new(); /* tcp://127.0.0.1:7400, or DUET_ROUTERS */
    if (options == NULL || duet_options_environment(options, &error) != DUET_OK)
        return fail(&error);
    struct duet_client *duet = duet_open(options, &error);
    duet_options_free(&options);
    if (duet == NULL)
        return fail(&error);

    struct duet_result *result = NULL;
    struct duet_slice key = duet_text("example:apple");
    if (duet_put(duet, key, duet_text("red"), NULL, NULL, &error) != DUET_OK)
        return fail(&error);
    if (duet_get(duet, key, &result, &error) != DUET_OK)
        return fail(&error);
    struct duet_slice value = duet_result_value(result); /* lives as long as the result */
    printf("the apple is %.*s\n", (int)value.size, (const char *)value.data);
    duet_result_free(&result);

    if (duet_del(duet, key, NULL, NULL, &error) != DUET_OK)
        return fail(&error);
    /* That there is no such key is an answer like any other, not a failure. */
    if (duet_get(duet, key, NULL, &error) == DUET_NOTFOUND)
        printf("the apple is gone: %s\n", error.message);
    duet_close(&duet);
    return 0;
}
