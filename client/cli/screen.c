/* screen: `duet status`, one screen: the cluster in four lines, its processes, what is wrong and
 * what to do. What is wrong stands last, where the eye is when the command has ended. */
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/style.h"
#include "client/cli/survey.h"

#define ROUTERS_SHOWN 8
#define NODES_SHOWN   16
#define FACT_INDENT   13
#define FIGURES_WIDTH 30 /* of three columns */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static long long number_of(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static bool is_up(const json_t *object)
{
    return json_is_true(json_object_get(object, "up"));
}

/* 12345678 as "12.3 M". */
static const char *short_number(double value, char text[static 24])
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    size_t unit = 0;
    for (; value >= 9999.5 && unit < 4; unit++)
        value /= 1000;
    snprintf(text, 24, unit == 0 || value >= 100 ? "%.0f%s" : "%.1f%s", value, units[unit]);
    return text;
}

static size_t count_up(const json_t *list)
{
    size_t i, up = 0;
    const json_t *item;
    json_array_foreach(list, i, item) up += is_up(item);
    return up;
}

/* "name         what is to be said of it", the second column in lines that fit. */
__attribute__((format(printf, 3, 4))) static void print_fact(const char *name, enum style style,
                                                             const char *format, ...)
{
    char text[1200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("%-*s%s", FACT_INDENT, name, style_begin(style));
    style_wrap(stdout, text, style_width(STDOUT_FILENO), FACT_INDENT, FACT_INDENT);
    fputs(style_end(), stdout);
}

static void print_counted(const char *name, const json_t *list)
{
    size_t up = count_up(list), all = json_array_size(list);
    print_fact(name, up < all ? STYLE_BAD : STYLE_PLAIN, "%zu of %zu up", up, all);
}

static void print_workload(const json_t *workload)
{
    const json_t *reads = json_object_get(workload, "reads_per_second");
    const json_t *writes = json_object_get(workload, "writes_per_second");
    char a[24], b[24], rates[80] = "";
    if (reads != NULL)
        snprintf(rates, sizeof rates, "%s reads/s, %s writes/s, ",
                 short_number(json_real_value(reads), a), short_number(json_real_value(writes), b));
    print_fact("workload", STYLE_PLAIN, "%s%lld operations in flight", rates,
               number_of(workload, "in_flight"));
}

/* The texts of an array, with commas between them. */
static const char *joined(const json_t *texts, char *to, size_t size)
{
    size_t i, used = 0;
    const json_t *text;
    to[0] = '\0';
    json_array_foreach(texts, i, text)
    {
        int wrote = snprintf(to + used, size - used, "%s%s", i == 0 ? "" : ", ",
                             json_string_value(text));
        used += (size_t)wrote < size - used ? (size_t)wrote : 0;
    }
    return to;
}

static void print_voters(const json_t *cluster)
{
    const json_t *to_come = json_object_get(cluster, "voters_to_come");
    char now[512], next[512];
    joined(json_object_get(cluster, "voters"), now, sizeof now);
    if (to_come == NULL)
        print_fact("voters", STYLE_PLAIN, "%s", now);
    else
        print_fact("voters", STYLE_BAD, "%s; to be %s", now, joined(to_come, next, sizeof next));
}

static void print_summary(const json_t *report)
{
    const json_t *cluster = json_object_get(report, "cluster");
    if (cluster != NULL) {
        long long all = number_of(cluster, "partitions");
        long long open = number_of(cluster, "partitions_writable");
        print_fact("cluster", STYLE_PLAIN, "%s", text_of(cluster, "id"));
        print_fact("partitions", open < all ? STYLE_BAD : STYLE_PLAIN,
                   "%lld, %lld copies of each; %lld take writes", all, number_of(cluster, "copies"),
                   open);
    }
    print_counted("routers", json_object_get(report, "routers"));
    if (cluster == NULL)
        return;
    print_counted("nodes", json_object_get(report, "nodes"));
    print_voters(cluster);
    print_workload(json_object_get(report, "workload"));
}

static void print_state(const json_t *object)
{
    bool up = is_up(object);
    printf("%s%-5s%s", style_begin(up ? STYLE_GOOD : STYLE_BAD), up ? "up" : "DOWN", style_end());
}

/* Widths of the two lists; figures: is there room for them? */
struct columns {
    int name, address;
    bool figures;
};

static void widen(struct columns *columns, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        int name = (int)strlen(text_of(item, "name")),
            address = (int)strlen(text_of(item, "address"));
        columns->name = name > columns->name ? name : columns->name;
        columns->address = address > columns->address ? address : columns->address;
    }
}

static struct columns columns_of(const json_t *report)
{
    int width = style_width(STDOUT_FILENO);
    struct columns columns = {.name = (int)sizeof "router" - 1,
                              .address = (int)sizeof "address" - 1};
    widen(&columns, json_object_get(report, "routers"));
    widen(&columns, json_object_get(report, "nodes"));
    int used = columns.name + 2 + columns.address + 2 + (int)sizeof "state" - 1 + FIGURES_WIDTH;
    columns.figures = width == 0 || used <= width;
    return columns;
}

static void print_process(const struct columns *columns, const json_t *object)
{
    printf("%-*s  %-*s  ", columns->name, text_of(object, "name"), columns->address,
           text_of(object, "address"));
    print_state(object);
}

static void print_router(const struct columns *columns, const json_t *r)
{
    char a[24], b[24], c[24];
    print_process(columns, r);
    if (columns->figures && json_object_get(r, "reads") != NULL)
        printf(" %9s %9s %9s", short_number((double)number_of(r, "reads"), a),
               short_number((double)number_of(r, "writes"), b),
               short_number((double)number_of(r, "in_flight"), c));
    putchar('\n');
}

static void print_node(const struct columns *columns, const json_t *n)
{
    char a[24];
    print_process(columns, n);
    if (columns->figures && json_object_get(n, "partitions_led") != NULL)
        printf(" %9lld %9lld %9s", number_of(n, "partitions_led"), number_of(n, "partitions_open"),
               short_number((double)number_of(n, "operations"), a));
    putchar('\n');
}

/* Those that are down first; of those that are up, as many as there is room for. */
static void print_list(const json_t *list, size_t shown_max, const struct columns *columns,
                       void (*print)(const struct columns *, const json_t *))
{
    size_t i, shown = 0, all = json_array_size(list);
    const json_t *item;
    for (int up = 0; up <= 1; up++) {
        json_array_foreach(list, i, item)
        {
            if (is_up(item) != (up == 1) || shown == shown_max)
                continue;
            print(columns, item);
            shown++;
        }
    }
    if (shown < all)
        printf("and %zu more (-o json shows all)\n", all - shown);
}

static void print_heading(const struct columns *columns, const char *name, const char *figures)
{
    printf("\n%s%-*s  %-*s  state%s%s\n", style_begin(STYLE_BOLD), columns->name, name,
           columns->address, "address", columns->figures ? figures : "", style_end());
}

static void print_problems(const json_t *problems)
{
    int width = style_width(STDOUT_FILENO);
    size_t i;
    const json_t *item;
    json_array_foreach(problems, i, item)
    {
        printf("%s!%s ", style_begin(STYLE_BAD), style_end());
        style_wrap(stdout, text_of(item, "what"), width, 2, 2);
        fputs("  -> ", stdout);
        style_wrap(stdout, text_of(item, "todo"), width, 5, 5);
    }
}

static void print_report(const json_t *report)
{
    const json_t *nodes = json_object_get(report, "nodes");
    struct columns columns = columns_of(report);
    print_summary(report);
    print_heading(&columns, "router", "     reads    writes in flight");
    print_list(json_object_get(report, "routers"), ROUTERS_SHOWN, &columns, print_router);
    if (json_array_size(nodes) > 0) {
        print_heading(&columns, "node", "     leads  writable operations");
        print_list(nodes, NODES_SHOWN, &columns, print_node);
    }
    putchar('\n');
    print_problems(json_object_get(report, "problems"));
    if (json_is_true(json_object_get(report, "ok")))
        printf("%sall is well%s\n", style_begin(STYLE_GOOD), style_end());
}

int screen_run(struct context *c)
{
    struct survey s;
    bool rates = c->output == OUTPUT_TABLE || isatty(STDOUT_FILENO);
    int exit_code = survey_take(c, rates, &s);
    if (exit_code == 0) {
        json_t *report = survey_report(&s);
        exit_code = survey_exit_code(&s, report);
        if (command_json(c)) {
            command_print_json(c, report);
        } else {
            print_report(report);
            json_decref(report);
        }
    }
    survey_fini(&s);
    return exit_code;
}
