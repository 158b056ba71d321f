/* What arrives at a supervisor's socket. */
#include "proto/base/notify.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static int supervisor = -1;

/* A socket in the kernel's own name space: no file is left behind. */
static int listen_as_supervisor(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int size = snprintf(name, sizeof name, "@duet-test-notify-%d", (int)getpid());
    memcpy(address.sun_path + 1, name + 1, (size_t)size - 1);
    supervisor = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)size);
    assert_int_equal(bind(supervisor, (struct sockaddr *)&address, length), 0);
    return setenv("NOTIFY_SOCKET", name, 1);
}

static int forget_supervisor(void **state)
{
    (void)state;
    close(supervisor);
    unsetenv("WATCHDOG_USEC");
    return unsetenv("NOTIFY_SOCKET");
}

/* The next datagram; "" when there is none. */
static const char *heard(void)
{
    static char text[4096];
    ssize_t size = recv(supervisor, text, sizeof text - 1, 0);
    text[size < 0 ? 0 : size] = '\0';
    return text;
}

static void test_notify__says_each_step_of_a_life(void **state)
{
    (void)state;
    notify_init();
    notify_starting("recovering: %d %%", 40);
    assert_string_equal(heard(), "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=recovering: 40 %");
    notify_ready("serving %s", "tcp://127.0.0.1:7500");
    assert_string_equal(heard(), "READY=1\nSTATUS=serving tcp://127.0.0.1:7500");
    notify_status("%s", "two\nlines");
    assert_string_equal(heard(), "STATUS=two lines");
    notify_stopping();
    assert_string_equal(heard(), "STOPPING=1\nSTATUS=stopping");
    assert_string_equal(heard(), "");
}

static void test_notify__a_long_status_is_cut(void **state)
{
    (void)state;
    char longer[NOTIFY_SIZE_MAX + 100];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    notify_status("%s", longer);
    assert_int_equal(strlen(heard()), strlen("STATUS=") + NOTIFY_SIZE_MAX - 1);
}

static void test_notify__feeds_the_watchdog_four_times_in_its_time(void **state)
{
    (void)state;
    setenv("WATCHDOG_USEC", "8000000", 1);
    notify_init();
    notify_turn(1000);
    assert_string_equal(heard(), "WATCHDOG=1"); /* the first turn at once */
    notify_turn(2999);
    assert_string_equal(heard(), "");
    notify_turn(3000);
    assert_string_equal(heard(), "WATCHDOG=1");
    notify_turn(3001);
    assert_string_equal(heard(), "");
    notify_turn(60000); /* late: once, not for each time that was missed */
    assert_string_equal(heard(), "WATCHDOG=1");
    notify_turn(60000);
    assert_string_equal(heard(), "");
}

static void test_notify__feeds_no_watchdog_that_nobody_wants(void **state)
{
    (void)state;
    notify_init();
    notify_turn(1000);
    setenv("WATCHDOG_USEC", "8000000", 1);
    setenv("WATCHDOG_PID", "1", 1); /* another process's */
    notify_init();
    notify_turn(2000);
    unsetenv("WATCHDOG_PID");
    assert_string_equal(heard(), "");
}

static void test_notify__is_silent_without_a_supervisor(void **state)
{
    (void)state;
    unsetenv("NOTIFY_SOCKET");
    notify_init();
    notify_starting("a");
    notify_ready("b");
    notify_stopping();
    assert_string_equal(heard(), "");
    setenv("NOTIFY_SOCKET", "@duet-test-nobody-listens", 1);
    notify_ready("b"); /* returns */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, listen_as_supervisor, forget_supervisor)
    const struct CMUnitTest tests[] = {
        TEST(test_notify__says_each_step_of_a_life),
        TEST(test_notify__a_long_status_is_cut),
        TEST(test_notify__feeds_the_watchdog_four_times_in_its_time),
        TEST(test_notify__feeds_no_watchdog_that_nobody_wants),
        TEST(test_notify__is_silent_without_a_supervisor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
