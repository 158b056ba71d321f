/* Changes that the node makes itself, so that no value travels there and back and nobody else's
 * change is lost: exact decimal numbers, text that grows, bytes in the middle. */
#include <duet.h>
#include <stdio.h>

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

/* Three times 0.10 is 0.3, and not 0.30000000000000004. */
static enum duet_code pay(struct duet_client *duet, struct duet_slice balance,
                          struct duet_slice journal, struct duet_error *error)
{
    for (int i = 0; i < 3; i++) {
        struct duet_result *sum = NULL;
        enum duet_code code = duet_add(duet, balance, duet_text("0.10"), &sum, error);
        if (code == DUET_OK)
            code = duet_append(duet, journal, duet_text("paid 0.10;"), NULL, error);
        if (code == DUET_OK && i == 2)
            printf("the balance is %s\n", (const char *)duet_result_value(sum).data);
        duet_result_free(&sum);
        if (code != DUET_OK)
            return code;
    }
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

    /* With one tag both keys live on the same nodes. */
    struct duet_slice balance = duet_text("example:{account}:balance");
    struct duet_slice journal = duet_text("example:{account}:journal");
    struct duet_result *result = NULL;
    duet_del(duet, balance, NULL, NULL, &error);
    duet_del(duet, journal, NULL, NULL, &error);
    if (pay(duet, balance, journal, &error) != DUET_OK ||
        duet_set_range(duet, journal, 5, duet_text("9.99"), NULL, &error) != DUET_OK ||
        duet_get(duet, journal, &result, &error) != DUET_OK)
        return fail(&error);
    printf("the journal is %s\n", (const char *)duet_result_value(result).data);
    duet_result_free(&result);
    duet_close(&duet);
    return 0;
}
