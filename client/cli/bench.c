/* bench: from flags to a load, from its sum to figures. */
#include <stdlib.h>
#include <unistd.h>

#include "client/cli/command.h"
#include "client/cli/load.h"
#include "proto/base/clock.h"

#define SECONDS_DEFAULT 10
#define SHOW_MS         500

/* ---- The plan ---- */

static int check(const char *flag, uint64_t value, uint64_t min, uint64_t max)
{
    if (value >= min && value <= max)
        return 0;
    return command_fail(DUET_USAGE, "--%s: %llu is not from %llu to %llu", flag,
                        (unsigned long long)value, (unsigned long long)min,
                        (unsigned long long)max);
}

static int check_numbers(const struct flags *f)
{
    const struct {
        const char *flag;
        uint64_t value, min, max;
    } limits[] = {
        {"connections", f->connections, 1, LOAD_CONNECTIONS_MAX},
        {"pipeline", f->pipeline, 1, CLIENT_WINDOW_MAX},
        {"threads", f->threads, 1, LOAD_THREADS_MAX},
        {"keys", f->keys, 1, LOAD_KEYS_MAX},
        {"reads", f->reads, 0, 100},
        {"rate", f->rate, 0, 100000000},
        {"seconds", f->seconds, 0, 1000000},
        {"value-size", f->value_size, 0, VALUE_SIZE_MAX},
        {"value-size-max", f->value_size_max, 0, VALUE_SIZE_MAX},
    };
    int exit_code = 0;
    for (size_t i = 0; exit_code == 0 && i < sizeof limits / sizeof *limits; i++)
        exit_code = check(limits[i].flag, limits[i].value, limits[i].min, limits[i].max);
    return exit_code;
}

static int check_theta(const char *text, double *ret)
{
    char *end;
    *ret = strtod(text, &end);
    if (end != text && *end == 0 && *ret > 0 && *ret < 1)
        return 0;
    return command_fail(DUET_USAGE, "--theta: '%s' is not above 0 and below 1", text);
}

static void set_mix(struct load_plan *plan, const struct flags *f)
{
    plan->fill = strcmp(f->mix, "fill") == 0;
    uint64_t percent = f->reads;
    if (strcmp(f->mix, "read") == 0)
        percent = 100;
    else if (strcmp(f->mix, "mixed") != 0)
        percent = 0;
    plan->reads_per_1024 = (uint32_t)(percent * 1024 / 100);
    if (plan->fill)
        plan->operations = plan->keys;
    else if (plan->operations == 0 && plan->seconds == 0)
        plan->seconds = SECONDS_DEFAULT;
}

static int make_plan(const struct context *c, struct load_plan *plan)
{
    const struct flags *f = &c->flags;
    struct duet_error error;
    double theta;
    *plan = (struct load_plan){.timeout_ms = f->timeout,
                               .connections = f->connections,
                               .pipeline = f->pipeline,
                               .threads = f->threads,
                               .keys = f->keys,
                               .operations = f->operations,
                               .seconds = f->seconds,
                               .rate = f->rate,
                               .zipfian = strcmp(f->distribution, "zipfian") == 0,
                               .value_size_min = f->value_size,
                               .value_size_max = f->value_size};
    if (f->value_size_max > f->value_size)
        plan->value_size_max = f->value_size_max;
    options_default(&plan->options);
    if (duet_options_set(&plan->options, "routers", c->routers, &error) != DUET_OK)
        return command_fail(error.code, "%s", error.message);
    int exit_code = check_numbers(f);
    if (exit_code == 0)
        exit_code = check_theta(f->theta, &theta);
    if (exit_code != 0)
        return exit_code;
    set_mix(plan, f);
    zipf_init(&plan->zipf, plan->keys, theta);
    plan->value = malloc(plan->value_size_max + 1);
    if (plan->value == NULL)
        return command_fail(DUET_NOMEMORY, "out of memory");
    for (size_t i = 0; i < plan->value_size_max; i++)
        plan->value[i] = (uint8_t)('a' + clock_random64() % 26);
    return 0;
}

/* ---- Figures ---- */

static const struct {
    const char *name;
    uint32_t per_10000;
} quantiles[] = {{"p50", 5000},  {"p90", 9000},   {"p99", 9900},
                 {"p999", 9990}, {"p9999", 9999}, {"max", 10000}};

static json_t *latency_json(const struct histogram *h)
{
    json_t *object = json_object();
    json_object_set_new(object, "count", json_integer((json_int_t)h->count));
    json_object_set_new(object, "mean",
                        json_real((double)h->sum / (double)(h->count + (h->count == 0)) / 1e3));
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        json_object_set_new(object, quantiles[i].name,
                            json_real((double)histogram_quantile(h, quantiles[i].per_10000) / 1e3));
    return object;
}

static void set_number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void print_json(const struct context *c, const struct load_plan *plan,
                       const struct load_sum *sum, double seconds)
{
    uint64_t count = sum->reads.count + sum->writes.count;
    json_t *object = json_object(), *latency = json_object();
    json_object_set_new(object, "mix", json_string(c->flags.mix));
    json_object_set_new(object, "loop", json_string(plan->rate == 0 ? "closed" : "open"));
    json_object_set_new(object, "distribution", json_string(c->flags.distribution));
    set_number(object, "rate", plan->rate);
    set_number(object, "connections", plan->connections);
    set_number(object, "pipeline", plan->pipeline);
    set_number(object, "threads", plan->threads);
    set_number(object, "keys", plan->keys);
    set_number(object, "value_size", plan->value_size_min);
    set_number(object, "value_size_max", plan->value_size_max);
    json_object_set_new(object, "seconds", json_real(seconds));
    set_number(object, "operations", count);
    json_object_set_new(object, "operations_per_second", json_real((double)count / seconds));
    set_number(object, "not_found", sum->not_found);
    set_number(object, "failed", sum->failed);
    set_number(object, "in_doubt", sum->in_doubt);
    set_number(object, "behind", sum->behind);
    json_object_set_new(latency, "read", latency_json(&sum->reads));
    json_object_set_new(latency, "write", latency_json(&sum->writes));
    json_object_set_new(object, "latency_us", latency);
    command_print_json(c, object);
}

/* Four digits are enough for people, and the line fits 80 columns. */
static int digits_of(double ms)
{
    return ms < 10 ? 3 : ms < 100 ? 2 : ms < 1000 ? 1 : 0;
}

static void print_latency(const char *name, const struct histogram *h)
{
    if (h->count == 0)
        return;
    printf("%-6s", name);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double ms = (double)histogram_quantile(h, quantiles[i].per_10000) / 1e6;
        printf("  %s %.*f", quantiles[i].name, digits_of(ms), ms);
    }
    puts(" ms");
}

static void print_plan(const struct context *c, const struct load_plan *plan)
{
    printf("%s: %llu connections x %llu in flight, %llu %s keys, values of %llu", c->flags.mix,
           (unsigned long long)plan->connections, (unsigned long long)plan->pipeline,
           (unsigned long long)plan->keys, plan->fill ? "ordered" : c->flags.distribution,
           (unsigned long long)plan->value_size_min);
    if (plan->value_size_max > plan->value_size_min)
        printf(" to %llu", (unsigned long long)plan->value_size_max);
    puts(" bytes");
    if (plan->rate > 0)
        printf("open loop at %llu/s; latency counts from when an operation was due\n",
               (unsigned long long)plan->rate);
}

static void print_table(const struct context *c, const struct load_plan *plan,
                        const struct load_sum *sum, double seconds)
{
    uint64_t count = sum->reads.count + sum->writes.count;
    print_plan(c, plan);
    printf("%llu operations in %.2f s: %.0f/s; %llu not found, %llu failed, %llu in doubt\n",
           (unsigned long long)count, seconds, (double)count / seconds,
           (unsigned long long)sum->not_found, (unsigned long long)sum->failed,
           (unsigned long long)sum->in_doubt);
    if (sum->behind > 0)
        printf("%llu operations were due and had not even begun: the rate is too high\n",
               (unsigned long long)sum->behind);
    print_latency("read", &sum->reads);
    print_latency("write", &sum->writes);
}

static int report(const struct context *c, const struct load_plan *plan, const struct load_sum *sum)
{
    double seconds = (double)(sum->end_ns - atomic_load(&plan->begin_ns)) / 1e9;
    if (command_json(c))
        print_json(c, plan, sum, seconds);
    else
        print_table(c, plan, sum, seconds);
    if (sum->failure == STATUS_OK)
        return 0;
    return command_fail((enum duet_code)sum->failure, "the first failure was: %s",
                        status_text(sum->failure));
}

/* ---- While it runs ---- */

struct shown {
    bool shown;
    uint64_t last_ms, last_count;
};

/* Rate, part, time left, on stderr when that is a terminal. */
static void show(const struct load_plan *plan, void *arg)
{
    struct shown *s = arg;
    uint64_t now_ms = clock_now_ms();
    if (!s->shown || now_ms - s->last_ms < SHOW_MS)
        return;
    uint64_t count = atomic_load(&plan->issued);
    double seconds = (double)(now_ms - atomic_load(&plan->begin_ns) / 1000000) / 1000;
    double rate = (double)(count - s->last_count) * 1000 / (double)(now_ms - s->last_ms);
    double part = plan->seconds > 0 ? seconds / (double)plan->seconds
                                    : (double)count / (double)plan->operations;
    if (s->last_ms > 0)
        fprintf(stderr, "\r%.0f operations/s, %.0f %%, %.0f s left\033[K", rate, 100 * part,
                part > 0 && part < 1 ? seconds / part - seconds : 0);
    s->last_ms = now_ms;
    s->last_count = count;
}

static int run(const struct context *c, struct load_plan *plan, struct load_sum *sum)
{
    struct shown shown = {.shown = !c->flags.quiet && isatty(STDERR_FILENO) != 0};
    command_catch_interrupt();
    enum status s = load_run(plan, sum, show, &shown);
    if (shown.shown)
        fputs("\r\033[K", stderr);
    if (s == STATUS_OK)
        return report(c, plan, sum);
    if (s == STATUS_NOCONNECTION)
        return command_fail(DUET_NOCONNECTION, "only %llu of %llu connections were answered at %s",
                            atomic_load(&plan->ready), (unsigned long long)plan->connections,
                            c->routers);
    return command_fail(DUET_NOMEMORY, "cannot start: out of memory, threads or files (ulimit -n)");
}

int bench_run(struct context *c)
{
    struct load_plan *plan = malloc(sizeof *plan);
    struct load_sum *sum = malloc(sizeof *sum);
    int exit_code = plan == NULL || sum == NULL ? command_fail(DUET_NOMEMORY, "out of memory")
                                                : make_plan(c, plan);
    if (exit_code == 0) {
        exit_code = run(c, plan, sum);
        free(plan->value);
    }
    free(plan);
    free(sum);
    return exit_code;
}
