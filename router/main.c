/* duet-router: finds every key's node. Reads options, runs the loop. */
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "proto/base/logline.h"
#include "proto/base/notify.h"
#include "proto/base/scheduling.h"
#include "router/loop.h"

#define VERSION "0.1.0"

#define ROW(...) OPTION_ROW(struct router_options, __VA_ARGS__)
static const struct option_row rows[] = {ROUTER_OPTIONS(ROW)};
#define ROWS_COUNT (sizeof rows / sizeof rows[0])

static int exit_code(enum status status)
{
    if (status == STATUS_CONFIG)
        return EX_CONFIG;
    if (status == STATUS_USAGE)
        return EX_USAGE;
    return status == STATUS_NOMEMORY ? EX_OSERR : EX_UNAVAILABLE;
}

static int fatal(const struct error *error)
{
    fprintf(stderr, "duet-router: %s\n", error->message);
    return exit_code(error->status);
}

static enum status options_read(struct option_set *set, struct router_options *o, int argc,
                                char **argv, struct error *reterr)
{
    char **rest = calloc((size_t)argc + 1, sizeof *rest);
    int rest_count = 0;
    if (rest == NULL)
        return error_set(reterr, STATUS_NOMEMORY, "out of memory");
    enum status status = option_read_flags(set, argc, argv, rest, &rest_count, reterr);
    if (status == STATUS_OK && rest_count > 0)
        status = error_set(reterr, STATUS_USAGE, "'%s' is not an option; see duet-router --help",
                           rest[0]);
    free(rest);
    if (status == STATUS_OK)
        status = option_read_environment(set, "DUET_ROUTER_", reterr);
    if (status == STATUS_OK && o->config[0] != '\0')
        status = option_read_file(set, o->config, reterr);
    return status;
}

static void print_help(const struct option_set *set)
{
    printf(
        "duet-router: takes clients' requests and finds every key's node\n\n"
        "  duet-router --nodes tcp://127.0.0.1:7500,tcp://127.0.0.1:7503\n\n"
        "It keeps nothing: any number of routers may run side by side. Options, from a file "
        "(--config,\nZPL), the environment (DUET_ROUTER_LISTEN) or flags, the later winning:\n\n");
    option_print_help(set, stdout);
}

/* Signals are blocked before any thread starts, so that only the loop sees them. */
static int signals_take(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int run(const struct router_options *o)
{
    struct error error = {.status = STATUS_OK};
    int signal_fd = signals_take();
    if (o->batch)
        scheduling_batch();
    logline_init("router", o->name, (enum logline_level)o->log_level);
    notify_init();
    struct loop *loop = loop_new(o, signal_fd, &error);
    if (loop == NULL)
        return fatal(&error);
    logline(LOGLINE_INFO, "started", "listen=%s nodes=%s slots=%llu", o->listen, o->nodes,
            (unsigned long long)o->slots);
    notify_starting("waiting for one of the nodes %s to answer", o->nodes);
    loop_run(loop);
    notify_stopping();
    loop_destroy(&loop);
    close(signal_fd);
    logline(LOGLINE_INFO, "stopped", "clean=true");
    return EX_OK;
}

static int check_config(const struct router_options *o)
{
    struct error error;
    if (loop_check(o, &error) != STATUS_OK)
        return fatal(&error);
    printf("configuration OK\n");
    return EX_OK;
}

static int command(const struct option_set *set, const struct router_options *o)
{
    if (o->help) {
        print_help(set);
        return EX_OK;
    }
    if (o->version) {
        printf("duet-router %s\n", VERSION);
        return EX_OK;
    }
    if (o->dump_config) {
        option_dump(set, stdout);
        return EX_OK;
    }
    return o->check_config ? check_config(o) : run(o);
}

int main(int argc, char **argv)
{
    struct router_options options;
    struct error error = {.status = STATUS_OK};
    struct option_set *set = option_new(rows, ROWS_COUNT, &options);
    if (set == NULL)
        return EX_OSERR;
    enum status status = options_read(set, &options, argc, argv, &error);
    int code = status == STATUS_OK ? command(set, &options) : fatal(&error);
    option_destroy(&set);
    return code;
}
