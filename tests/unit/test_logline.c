#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "proto/base/logline.h"

/* stderr goes to a file while a test runs. */
static FILE *captured;
static int saved_stderr;
static char text[1 << 20];

static int setup(void **state)
{
    (void)state;
    captured = tmpfile();
    saved_stderr = dup(STDERR_FILENO);
    if (captured == NULL || saved_stderr < 0)
        return -1;
    logline_init("storage", "n1", LOGLINE_INFO);
    return dup2(fileno(captured), STDERR_FILENO) < 0;
}

static int teardown(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    fclose(captured);
    return 0;
}

static const char *written(void)
{
    rewind(captured);
    text[fread(text, 1, sizeof text - 1, captured)] = '\0';
    return text;
}

static void test_logline__line_has_time_level_process_node_event_and_fields(void **state)
{
    (void)state;
    logline(LOGLINE_WARN, "node_silent", "peer=%s silent_ms=%d", "n3", 300);
    int year, month, day, hour, minute, second, milli, end = 0;
    const char *line = written();
    assert_int_equal(sscanf(line, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour,
                            &minute, &second, &milli, &end),
                     7);
    assert_string_equal(
        line + end, " level=warn proc=storage node=n1 event=node_silent peer=n3 silent_ms=300\n");
}

static void test_logline__event_without_fields_has_no_trailing_space(void **state)
{
    (void)state;
    logline(LOGLINE_ERROR, "stopped", NULL);
    assert_non_null(strstr(written(), "level=error proc=storage node=n1 event=stopped\n"));
}

static void test_logline__below_the_least_level_nothing_is_written(void **state)
{
    (void)state;
    logline(LOGLINE_DEBUG, "step", "n=%d", 1);
    assert_string_equal(written(), "");
    logline_init("storage", "n1", LOGLINE_DEBUG);
    logline(LOGLINE_DEBUG, "step", "n=%d", 1);
    assert_non_null(strstr(written(), "level=debug"));
}

static void test_logline__control_characters_cannot_forge_a_second_line(void **state)
{
    (void)state;
    logline(LOGLINE_INFO, "open", "path=\"%s\"", "a\nts=2000 level=error\x1b[31m\x7f");
    const char *line = written();
    assert_non_null(strstr(line, "path=\"a?ts=2000 level=error?[31m?\"\n"));
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void test_logline__long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    char field[LOGLINE_SIZE_MAX * 2];
    memset(field, 'x', sizeof field - 1);
    field[sizeof field - 1] = '\0';
    logline(LOGLINE_INFO, "open", "path=%s", field);
    const char *line = written();
    assert_int_equal(strlen(line), LOGLINE_SIZE_MAX);
    assert_string_equal(line + LOGLINE_SIZE_MAX - 6, "xx...\n");
}

/* Around the ceiling, each length is either whole or cut. */
static void test_logline__every_length_near_the_ceiling_ends_in_one_newline(void **state)
{
    (void)state;
    char field[LOGLINE_SIZE_MAX];
    for (size_t size = LOGLINE_SIZE_MAX - 100; size < LOGLINE_SIZE_MAX; size++) {
        memset(field, 'x', size);
        field[size] = '\0';
        logline(LOGLINE_INFO, "e", "f=%s", field);
    }
    const char *line = written();
    unsigned lines_count = 0;
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines_count++)
        assert_true((size_t)(end - line) + 1 <= LOGLINE_SIZE_MAX && strncmp(line, "ts=", 3) == 0);
    assert_int_equal(lines_count, 100);
    assert_string_equal(line, "");
}

static void *log_many(void *arg)
{
    for (int i = 0; i < 500; i++)
        logline(LOGLINE_INFO, "many", "thread=%s i=%d end=yes", (const char *)arg, i);
    return NULL;
}

static void test_logline__lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    pthread_t threads[4];
    static char names[4][2] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const char *line = written();
    unsigned lines_count = 0;
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines_count++) {
        assert_memory_equal(line, "ts=", 3);
        assert_memory_equal(end - 8, " end=yes", 8);
    }
    assert_int_equal(lines_count, 2000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_logline__line_has_time_level_process_node_event_and_fields),
        TEST(test_logline__event_without_fields_has_no_trailing_space),
        TEST(test_logline__below_the_least_level_nothing_is_written),
        TEST(test_logline__control_characters_cannot_forge_a_second_line),
        TEST(test_logline__long_line_is_cut_and_says_so),
        TEST(test_logline__every_length_near_the_ceiling_ends_in_one_newline),
        TEST(test_logline__lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
