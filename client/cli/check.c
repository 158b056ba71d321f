/* check: `duet check`, the cluster for monitors: one line for Nagios and its kind, or metrics in
 * Prometheus' text format. */
#include "client/cli/survey.h"

/* Nagios' exit codes. */
enum { CHECK_OK = 0, CHECK_WARNING = 1, CHECK_CRITICAL = 2, CHECK_UNKNOWN = 3 };

static size_t down_of(const json_t *list)
{
    size_t i, down = 0;
    const json_t *item;
    json_array_foreach(list, i, item) down += !json_is_true(json_object_get(item, "up"));
    return down;
}

static long long cluster_number(const json_t *report, const char *name)
{
    return json_integer_value(json_object_get(json_object_get(report, "cluster"), name));
}

/* Critical: somebody is refused; a warning: nobody is, yet. */
static int severity(const json_t *report)
{
    if (json_is_true(json_object_get(report, "ok")))
        return CHECK_OK;
    bool all_writable =
        cluster_number(report, "partitions_writable") == cluster_number(report, "partitions");
    bool full = false;
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(report, "nodes"), i, item) full =
        full || json_integer_value(json_object_get(item, "disk_full")) != 0;
    bool known = json_object_get(report, "cluster") != NULL;
    return known && all_writable && !full ? CHECK_WARNING : CHECK_CRITICAL;
}

static int print_nagios(const json_t *report)
{
    static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    const json_t *problems = json_object_get(report, "problems");
    const json_t *routers = json_object_get(report, "routers");
    const json_t *nodes = json_object_get(report, "nodes");
    int code = severity(report);
    size_t count = json_array_size(problems);
    printf("DUET %s - ", words[code]);
    if (count == 0)
        fputs("all is well", stdout);
    else
        printf("%s%s", json_string_value(json_object_get(json_array_get(problems, 0), "what")),
               count > 1 ? " (and more)" : "");
    printf(" | routers_down=%zu;;1;0;%zu nodes_down=%zu;;1;0;%zu partitions_writable=%lld;;;0;%lld "
           "problems=%zu\n",
           down_of(routers), json_array_size(routers), down_of(nodes), json_array_size(nodes),
           cluster_number(report, "partitions_writable"), cluster_number(report, "partitions"),
           count);
    for (size_t i = 1; i < count; i++)
        puts(json_string_value(json_object_get(json_array_get(problems, i), "what")));
    return code;
}

static void print_metric(const char *name, const char *help, double value)
{
    printf("# HELP duet_check_%s %s\n# TYPE duet_check_%s gauge\nduet_check_%s %.17g\n", name, help,
           name, name, value);
}

static void print_label(const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        putchar(*text);
    }
}

static void print_each(const char *name, const char *help, const json_t *list, const char *label,
                       const char *field)
{
    size_t i;
    const json_t *item;
    printf("# HELP duet_check_%s %s\n# TYPE duet_check_%s gauge\n", name, help, name);
    json_array_foreach(list, i, item)
    {
        const json_t *value = json_object_get(item, field);
        if (value == NULL)
            continue;
        printf("duet_check_%s{%s=\"", name, label);
        print_label(json_string_value(json_object_get(item, label)));
        printf("\"} %lld\n",
               json_is_boolean(value) ? json_is_true(value) : (long long)json_integer_value(value));
    }
}

static int print_prometheus(const json_t *report)
{
    const json_t *routers = json_object_get(report, "routers");
    const json_t *nodes = json_object_get(report, "nodes");
    print_metric("well", "Whether nothing is wrong.",
                 json_is_true(json_object_get(report, "ok")) ? 1 : 0);
    print_metric("problems", "Things that are wrong.",
                 (double)json_array_size(json_object_get(report, "problems")));
    print_metric("partitions", "Partitions of the cluster.",
                 (double)cluster_number(report, "partitions"));
    print_metric("partitions_writable", "Partitions that take writes.",
                 (double)cluster_number(report, "partitions_writable"));
    print_each("router_up", "Whether the router answers.", routers, "address", "up");
    print_each("node_up", "Whether the node answers, here or to a router.", nodes, "name", "up");
    print_each("node_disk_full", "Whether the node refuses writes for want of room.", nodes, "name",
               "disk_full");
    return json_is_true(json_object_get(report, "ok")) ? 0 : 5;
}

int check_run(struct context *c)
{
    struct survey s;
    const char *format = c->flags.format;
    bool nagios = format[0] == 0 || strcmp(format, "nagios") == 0;
    if (!nagios && strcmp(format, "prometheus") != 0)
        return command_fail(DUET_USAGE, "--format: check prints nagios or prometheus, not %s",
                            format);
    int code = survey_take(c, false, &s);
    if (code == 0) {
        json_t *report = survey_report(&s);
        code = nagios ? print_nagios(report) : print_prometheus(report);
        json_decref(report);
    } else if (nagios) {
        puts("DUET UNKNOWN - wrong use");
        code = CHECK_UNKNOWN;
    }
    survey_fini(&s);
    return code;
}
