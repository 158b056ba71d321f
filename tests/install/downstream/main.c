#include <duet.h>
#include <stdio.h>

int main(void)
{
    struct duet_error error = {.message = "out of memory"};
    struct duet_options *options = duet_options_new();
    struct duet_client *duet = NULL;
    int64_t sum = 0;
    if (options != NULL && duet_options_environment(options, &error) == DUET_OK)
        duet = duet_open(options, &error);
    duet_options_free(&options);
    bool good = duet != NULL &&
                duet_incr(duet, duet_text("downstream"), 1, &sum, NULL, &error) == DUET_OK;
    duet_close(&duet);
    printf("%s %s\n", duet_version_text(), good ? "counted" : error.message);
    return good && sum > 0 ? 0 : 1;
}
