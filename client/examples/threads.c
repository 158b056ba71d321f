/* One client for all threads of a program: no lock, no pool. What they ask at the same time travels
 * together. */
#include <duet.h>
#include <pthread.h>
#include <stdio.h>

#define THREADS 10
#define TIMES   100

static int fail(const struct duet_error *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

static void *work(void *arg)
{
    struct duet_client *duet = arg;
    struct duet_error error;
    for (int i = 0; i < TIMES; i++) {
        if (duet_incr(duet, duet_text("example:shared"), 1, NULL, NULL, &error) != DUET_OK) {
            fprintf(stderr, "%s\n", error.message);
            return arg;
        }
    }
    return NULL;
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

    pthread_t threads[THREADS];
    void *failed = NULL;
    int64_t before = 0, after = 0;
    if (duet_incr(duet, duet_text("example:shared"), 0, &before, NULL, &error) != DUET_OK)
        return fail(&error);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, duet) != 0)
            return 1;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        failed = result != NULL ? result : failed;
    }
    if (duet_incr(duet, duet_text("example:shared"), 0, &after, NULL, &error) != DUET_OK)
        return fail(&error);
    printf("%d threads, the counter went up by %lld\n", THREADS, (long long)(after - before));
    duet_close(&duet);
    return failed == NULL && after - before == THREADS * TIMES ? 0 : 1;
}
