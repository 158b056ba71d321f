#include "client/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/fault.h"

#define ROUTER_DEFAULT "tcp://127.0.0.1:7400"
#define TIMEOUT_MAX_MS 3600000

void options_default(struct duet_options *options)
{
    *options = (struct duet_options){.routers = {ROUTER_DEFAULT},
                                     .routers_count = 1,
                                     .timeout_ms = SESSION_TIMEOUT_DEFAULT_MS,
                                     .read = DUET_READ_LINEARIZABLE,
                                     .window = CLIENT_WINDOW_MAX};
}

struct duet_options *duet_options_new(void)
{
    struct duet_options *options = malloc(sizeof *options);
    if (options != NULL)
        options_default(options);
    return options;
}

void duet_options_free(struct duet_options **options_p)
{
    if (options_p == NULL)
        return;
    free(*options_p);
    *options_p = NULL;
}

/* One address; "HOST:PORT" means TCP. */
static enum duet_code add_router(struct duet_options *options, const char *at, size_t size,
                                 struct duet_error *reterr)
{
    if (options->routers_count == SESSION_ROUTERS_MAX)
        return fault_set(reterr, DUET_CONFIG, "routers: more than %d addresses",
                         SESSION_ROUTERS_MAX);
    char *to = options->routers[options->routers_count];
    char text[ADDRESS_SIZE_MAX - sizeof "tcp://"];
    if (size >= sizeof text)
        return fault_set(reterr, DUET_CONFIG, "routers: an address is longer than %zu bytes",
                         sizeof text - 1);
    memcpy(text, at, size);
    text[size] = 0;
    const char *scheme = strstr(text, "://");
    const char *port = strrchr(text, ':');
    bool tcp = scheme == NULL || strncmp(text, "tcp://", 6) == 0;
    if (tcp && (port == NULL || port == scheme || port[1] == 0))
        return fault_set(reterr, DUET_CONFIG,
                         "routers: '%s' has no port; write it like tcp://127.0.0.1:7400", text);
    snprintf(to, ADDRESS_SIZE_MAX, "%s%s", scheme == NULL ? "tcp://" : "", text);
    options->routers_count++;
    return DUET_OK;
}

static enum duet_code set_routers(struct duet_options *options, const char *value,
                                  struct duet_error *reterr)
{
    struct duet_options changed = *options;
    changed.routers_count = 0;
    memset(changed.routers, 0, sizeof changed.routers);
    for (const char *at = value + strspn(value, ", \t\n"); *at != 0; at += strspn(at, ", \t\n")) {
        size_t size = strcspn(at, ", \t\n");
        enum duet_code code = add_router(&changed, at, size, reterr);
        if (code != DUET_OK)
            return code;
        at += size;
    }
    if (changed.routers_count == 0)
        return fault_set(reterr, DUET_CONFIG,
                         "routers: no address; write at least one, like tcp://127.0.0.1:7400");
    *options = changed;
    return DUET_OK;
}

static enum duet_code set_number(uint32_t *to, const char *name, const char *value, uint32_t max,
                                 struct duet_error *reterr)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno != 0 || end == value || *end != 0 || strchr(value, '-') != NULL || number < 1 ||
        number > max)
        return fault_set(reterr, DUET_CONFIG, "%s: '%s' is not a number from 1 to %u", name, value,
                         max);
    *to = (uint32_t)number;
    return DUET_OK;
}

static enum duet_code set_name(struct duet_options *options, const char *value,
                               struct duet_error *reterr)
{
    if (strlen(value) >= sizeof options->name)
        return fault_set(reterr, DUET_CONFIG, "name: longer than %d bytes", NAME_SIZE_MAX - 1);
    snprintf(options->name, sizeof options->name, "%s", value);
    return DUET_OK;
}

static enum duet_code set_read(struct duet_options *options, const char *value,
                               struct duet_error *reterr)
{
    static const char *const words[] = {"linearizable", "confirm", "any"};
    for (int i = 0; i < 3; i++)
        if (strcmp(value, words[i]) == 0) {
            options->read = (enum duet_read)(DUET_READ_LINEARIZABLE + i);
            return DUET_OK;
        }
    return fault_set(reterr, DUET_CONFIG, "read: '%s' is none of linearizable, confirm, any", value);
}

static enum duet_code set_loop(struct duet_options *options, const char *value,
                               struct duet_error *reterr)
{
    if (strcmp(value, "thread") != 0 && strcmp(value, "caller") != 0)
        return fault_set(reterr, DUET_CONFIG, "loop: '%s' is neither thread nor caller", value);
    options->by_caller = value[0] == 'c';
    return DUET_OK;
}

enum duet_code duet_options_set(struct duet_options *options, const char *name, const char *value,
                                struct duet_error *reterr)
{
    if (strcmp(name, "routers") == 0)
        return set_routers(options, value, reterr);
    if (strcmp(name, "timeout_ms") == 0)
        return set_number(&options->timeout_ms, name, value, TIMEOUT_MAX_MS, reterr);
    if (strcmp(name, "window") == 0)
        return set_number(&options->window, name, value, CLIENT_WINDOW_MAX, reterr);
    if (strcmp(name, "name") == 0)
        return set_name(options, value, reterr);
    if (strcmp(name, "loop") == 0)
        return set_loop(options, value, reterr);
    if (strcmp(name, "read") == 0)
        return set_read(options, value, reterr);
    return fault_set(reterr, DUET_CONFIG,
                     "there is no option '%s'; there are routers, timeout_ms, window, name, loop, "
                     "read",
                     name);
}

enum duet_code duet_options_environment(struct duet_options *options, struct duet_error *reterr)
{
    static const char *const names[][2] = {{"DUET_ROUTERS", "routers"},
                                           {"DUET_TIMEOUT_MS", "timeout_ms"},
                                           {"DUET_WINDOW", "window"},
                                           {"DUET_NAME", "name"},
                                           {"DUET_READ", "read"}};
    struct duet_options changed = *options;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i][0]);
        if (value == NULL)
            continue;
        enum duet_code code = duet_options_set(&changed, names[i][1], value, reterr);
        if (code != DUET_OK)
            return code;
    }
    *options = changed;
    return DUET_OK;
}
