/* Read, change, write back if nobody was faster: any change of a value, without locks. */
#include <duet.h>
#include <stdio.h>
#include <string.h>

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

/* Add a word to a list of words. */
static enum duet_code add_word(struct duet_client *duet, struct duet_slice key, const char *word,
                               struct duet_error *error)
{
    for (;;) {
        struct duet_result *read = NULL;
        struct duet_condition unchanged = {.when = DUET_IF_ABSENT};
        char list[256];
        enum duet_code code = duet_get(duet, key, &read, error);
        if (code == DUET_OK) {
            unchanged = (struct duet_condition){.when = DUET_IF_VERSION,
                                                .version = duet_result_version(read)};
            snprintf(list, sizeof list, "%s %s", (const char *)duet_result_value(read).data, word);
        } else if (code == DUET_NOTFOUND) {
            snprintf(list, sizeof list, "%s", word);
        } else {
            duet_result_free(&read);
            return code;
        }
        duet_result_free(&read);
        code = duet_put(duet, key, duet_text(list), &unchanged, NULL, error);
        if (code != DUET_CONDITION)
            return code;
        /* Somebody else was faster: read what is there now. */
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

    struct duet_slice key = duet_text("example:words");
    struct duet_result *result = NULL;
    duet_del(duet, key, NULL, NULL, &error);
    if (add_word(duet, key, "one", &error) != DUET_OK ||
        add_word(duet, key, "two", &error) != DUET_OK ||
        add_word(duet, key, "three", &error) != DUET_OK ||
        duet_get(duet, key, &result, &error) != DUET_OK)
        return fail(&error);
    printf("words: %s\n", (const char *)duet_result_value(result).data);
    duet_result_free(&result);
    duet_close(&duet);
    return 0;
}
