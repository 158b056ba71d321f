/* sim: the simulator's program. See tests/README.md. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/run.h"
#include "tests/sim/scenario.h"

#define MUTANT_STARTS 3

/* What each mutant does wrong (the numbers are those of the design's list of traps), and where to
 * look for it first: a scenario, or NULL for random seeds. */
static const struct {
    unsigned number;
    const char *scenario;
    const char *breaks;
} mutants[] = {
    {1, NULL, "a replica serves a received, uncommitted value"},
    {2, NULL, "the primary serves the old value of a dirty key"},
    {3, NULL, "a replica shows a value before the primary is durable"},
    {4, NULL, "a replica acknowledges its last stored entry"},
    {5, "lost-tail", "a replica commits past its verified prefix"},
    {7, NULL, "a replica cuts its log at its commit position"},
    {8, NULL, "commits without a member before the register says so"},
    {9, NULL, "an addition is proposed before it has everything"},
    {10, "doubtful-addition", "an addition in doubt is not waited for any more"},
    {11, NULL, "commits before the lease of who was left out ran out"},
    {12, NULL, "a lease counts from the receipt of the answer"},
    {13, "forgotten-lease", "a restart forgets the leases that it gave"},
    {14, NULL, "leases go by the wall clock"},
    {15, "stale-turn", "a turn goes by the time before it was interrupted"},
    {17, "no-voters", "a primary stops that hears of no majority of the voters"},
    {20, NULL, "a node that was left out takes over"},
    {21, "short-log", "the last member comes back with a shorter log"},
    {22, "wrong-disk", "an empty disk under a known node is taken for the node's"},
    {23, "wrong-disk", "an old image of a node's disk is taken for the newest"},
    {24, "bad-disk", "a failed sync is tried again"},
    {25, "damage", "a checksum hole is taken for a torn tail"},
    {26, NULL, "a retry is answered from an uncommitted record"},
    {27, NULL, "a record is applied at receipt, the entry then cut off"},
    {28, NULL, "completion records are missing in a whole copy"},
    {29, "late-duplicate", "a late duplicate after its record was collected is executed"},
    {30, NULL, "an increment is executed again on the replica"},
    {31, NULL, "a node takes a write because a router takes it for the primary"},
    {32, NULL, "an error is returned for a write that did commit"},
    {33, "half-copy", "half a copy is taken for a whole one after a crash"},
    {34, NULL, "a directory is not synced after rename or create"},
    {35, "half-copy", "a copy is dropped before the one in its place is durable"},
    {36, "learner-ack", "a learner's acknowledgement counts for a member's"},
    {37, "hang", "heartbeats come while the data loop hangs"},
    {43, NULL, "a restarted primary appends in its old epoch"},
    {44, NULL, "a failed precondition is not recorded, the repeat executes"},
    {45, NULL, "an outcome query says 'not applied' before that is certain"},
    {46, NULL, "BUSY is called 'not done' after an earlier attempt was sent"},
    {47, "hung-primary", "a read overtakes the same connection's write"},
    {48, NULL, "an expiry is judged by the copy's own clock"},
    {49, "bad-link", "leases are given to who is left out"},
    {50, "dead-winner", "only the epoch that never opened may be taken over"},
    {52, "two-left-out", "only the last epoch's members are waited for"},
    {53, "two-left-out", "a replica does not see that the primary waits for an addition"},
    {54, NULL, "the floor of a client is lost at a restart"},
    {60, NULL, "an atomic batch goes on though a precondition is false"},
    {61, NULL, "a page of a hash tag does not wait for what is dirty"},
    {62, NULL, "a replica applies a part of an atomic batch first"},
    {63, "slow-clock", "a read that is to be confirmed trusts the lease"},
    {64, NULL, "a read of any copy shows what is not committed"},
    {65, "late-answer", "an answer confirms reads that came after its question"},
    {66, "stalled-disk", "a primary whose disk stands still leads on"},
    {67, "new-voter", "the former voters go before the new ones have every register"},
};
#define MUTANTS_COUNT (sizeof mutants / sizeof mutants[0])

struct options {
    uint64_t first, last;
    bool one_seed, check_determinism, mutants, tracing, reach, starved;
    unsigned mutant, jobs, starts;
    uint64_t seeds_max; /* per mutant and start */
    uint32_t operations;
    const char *scenario;
    const char *file;
    const char *reach_to; /* a file: what happened in the sweep, for --reached */
    char **reached;       /* such files */
    int reached_count;
};

/* ---------------------------------------------------------------- seeds */

struct sweep {
    const struct options *o;
    uint64_t next, runs, failures, operations, in_doubt, events, simulated_ms, undecided;
    uint64_t reached[REACH_COUNT];
};

static const char *const reach_words[] = {
#define X(name, words) words,
    REACH_MAP(X)
#undef X
};

static void print_reached(const uint64_t reached[REACH_COUNT])
{
    for (int i = 0; i < REACH_COUNT; i++)
        printf("  %10" PRIu64 "  %s%s\n", reached[i], reach_words[i],
               reached[i] == 0 ? "  <- NEVER REACHED" : "");
}

static bool write_reached(const char *path, const uint64_t reached[REACH_COUNT])
{
    FILE *f = fopen(path, "w");
    if (f == NULL)
        return false;
    for (int i = 0; i < REACH_COUNT; i++)
        fprintf(f, "%" PRIu64 " %s\n", reached[i], reach_words[i]);
    return fclose(f) == 0;
}

static bool add_reached(const char *path, uint64_t reached[REACH_COUNT])
{
    char words[100];
    uint64_t number;
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return false;
    bool good = true;
    for (int i = 0; good && i < REACH_COUNT; i++) {
        good = fscanf(f, "%" SCNu64 " %99[^\n]", &number, words) == 2 &&
               strcmp(words, reach_words[i]) == 0;
        reached[i] += good ? number : 0;
    }
    fclose(f);
    return good;
}

/* Several sweeps together: a trap that none of them reached is a failure. */
static int run_reached(const struct options *o)
{
    uint64_t reached[REACH_COUNT] = {0};
    int never = 0;
    for (int i = 0; i < o->reached_count; i++) {
        if (add_reached(o->reached[i], reached))
            continue;
        printf("cannot read '%s', or it is of another build\n", o->reached[i]);
        return 2;
    }
    print_reached(reached);
    for (int i = 0; i < REACH_COUNT; i++)
        never += reached[i] == 0;
    printf("%d of %d situations were never reached\n", never, REACH_COUNT);
    return never != 0;
}

static bool next_seed(void *arg, struct run_order *ret)
{
    struct sweep *b = arg;
    if (b->next > b->o->last)
        return false;
    *ret = (struct run_order){.seed = b->next++,
                              .scenario = b->o->scenario,
                              .operations = b->o->operations,
                              .starved = b->o->starved,
                              .mutant = b->o->mutant};
    return true;
}

static void print_failure(const struct run_order *order, const struct run_result *r)
{
    printf("FAILED seed %" PRIu64 "%s%s: %s: %s\n  repeat: sim", order->seed,
           order->scenario == NULL ? "" : " scenario ",
           order->scenario == NULL ? "" : order->scenario, r->invariant, r->failure);
    if (order->scenario != NULL)
        printf(" --scenario %s", order->scenario);
    printf(" --seed %" PRIu64, order->seed);
    if (order->starved)
        printf(" --starved");
    if (order->mutant != 0)
        printf(" --mutant %u", order->mutant);
    if (order->operations != 0)
        printf(" --operations %u", order->operations);
    printf(" --trace\n");
    fflush(stdout);
}

static bool seed_done(void *arg, const struct run_order *order, const struct run_result *r)
{
    struct sweep *b = arg;
    b->runs++;
    b->operations += r->operations;
    b->in_doubt += r->in_doubt;
    b->events += r->events;
    b->simulated_ms += r->simulated_ms;
    b->undecided += r->undecided;
    for (int i = 0; i < REACH_COUNT; i++)
        b->reached[i] += r->reached[i];
    if (!r->failed)
        return true;
    b->failures++;
    print_failure(order, r);
    return b->failures < 10;
}

static int run_seeds(const struct options *o)
{
    struct sweep b = {.o = o, .next = o->first};
    run_many(o->jobs, next_seed, seed_done, &b);
    if (o->reach)
        print_reached(b.reached);
    if (o->reach_to != NULL && !write_reached(o->reach_to, b.reached)) {
        printf("cannot write '%s'\n", o->reach_to);
        return 2;
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failed; %" PRIu64 " operations (%" PRIu64
           " in doubt), %" PRIu64 " events, %" PRIu64 " simulated seconds, %" PRIu64
           " keys undecided\n",
           b.runs, b.failures, b.operations, b.in_doubt, b.events, b.simulated_ms / 1000,
           b.undecided);
    return b.failures == 0 ? 0 : 1;
}

static int run_one(const struct options *o)
{
    struct run_order order = {.seed = o->first,
                              .scenario = o->scenario,
                              .operations = o->operations,
                              .mutant = o->mutant,
                              .starved = o->starved,
                              .tracing = o->tracing};
    struct run_result r;
    run_here(&order, &r);
    printf("seed %" PRIu64 ": %" PRIu64 " operations (%" PRIu64 " in doubt), %" PRIu64
           " events, %" PRIu64 " ms simulated, trace %016" PRIx64 "\n",
           o->first, r.operations, r.in_doubt, r.events, r.simulated_ms, r.trace_hash);
    if (r.failed)
        print_failure(&order, &r);
    return r.failed;
}

static int check_determinism(const struct options *o)
{
    for (uint64_t seed = o->first; seed <= o->last; seed++) {
        struct run_order order = {.seed = seed, .operations = o->operations};
        struct run_result a, b;
        run_here(&order, &a);
        run_here(&order, &b);
        if (a.trace_hash != b.trace_hash || a.events != b.events) {
            printf("FAILED seed %" PRIu64 " runs differently the second time: traces %016" PRIx64
                   " and %016" PRIx64 "\n",
                   seed, a.trace_hash, b.trace_hash);
            return 1;
        }
    }
    printf("%" PRIu64 " seeds ran the same twice\n", o->last - o->first + 1);
    return 0;
}

/* ---------------------------------------------------------------- mutants */

struct hunt {
    const struct options *o;
    unsigned mutant;
    const char *scenario;
    uint64_t next, last;
    uint64_t found; /* seed, 0: not yet */
    char invariant[16];
};

static bool next_hunt(void *arg, struct run_order *ret)
{
    struct hunt *h = arg;
    if (h->next > h->last)
        return false;
    *ret = (struct run_order){
        .seed = h->next++, .scenario = h->scenario, .mutant = h->mutant, .quiet = true};
    return true;
}

static bool hunt_done(void *arg, const struct run_order *order, const struct run_result *r)
{
    struct hunt *h = arg;
    if (!r->failed)
        return true;
    h->found = order->seed;
    snprintf(h->invariant, sizeof h->invariant, "%s", r->invariant);
    return false;
}

static int compare_counts(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Seeds needed from each start, sorted; UINT64_MAX: not found. */
static bool hunt_mutant(const struct options *o, size_t index, bool directed,
                        uint64_t needed[MUTANT_STARTS], char invariant[static 16])
{
    bool all = true;
    for (unsigned start = 0; start < o->starts; start++) {
        uint64_t first = o->first + start * 100000;
        struct hunt h = {.o = o,
                         .mutant = mutants[index].number,
                         .next = first,
                         .last = first + (directed ? 20 : o->seeds_max) - 1,
                         .scenario = directed ? mutants[index].scenario : NULL};
        run_many(o->jobs, next_hunt, hunt_done, &h);
        needed[start] = h.found == 0 ? UINT64_MAX : h.found - first + 1;
        all &= h.found != 0;
        if (h.found != 0)
            snprintf(invariant, 16, "%s", h.invariant);
    }
    qsort(needed, o->starts, sizeof needed[0], compare_counts);
    return all;
}

static bool print_mutant(const struct options *o, size_t index)
{
    uint64_t needed[MUTANT_STARTS];
    char invariant[16] = "-", counts[64] = "not found";
    bool directed = mutants[index].scenario != NULL;
    bool found = hunt_mutant(o, index, directed, needed, invariant);
    uint64_t median = needed[o->starts / 2];
    if (median != UINT64_MAX)
        snprintf(counts, sizeof counts, "%" PRIu64, median);
    printf("%6u  %-64s  %9s  %-9s %s\n", mutants[index].number, mutants[index].breaks, counts,
           found ? invariant : "MISSED", directed ? mutants[index].scenario : "");
    fflush(stdout);
    return found;
}

static int run_mutants(const struct options *o)
{
    int missed = 0;
    printf("mutant  what it breaks%51s  seeds  caught by  scenario\n", "");
    for (size_t i = 0; i < MUTANTS_COUNT; i++)
        if (o->mutant == 0 || o->mutant == mutants[i].number)
            missed += !print_mutant(o, i);
    printf("%d missed\n", missed);
    return missed != 0;
}

/* ---------------------------------------------------------------- scenarios */

static int run_scenarios(const struct options *o)
{
    int failed = 0;
    for (unsigned i = 0; i < scenarios_count; i++) {
        struct options one = *o;
        one.scenario = scenarios[i].name;
        printf("%-28s %s\n", scenarios[i].name, scenarios[i].sentence);
        fflush(stdout);
        failed += run_seeds(&one);
    }
    return failed != 0;
}

/* ---------------------------------------------------------------- seeds with a story */

struct story {
    struct run_order order;
    char scenario[40], sentence[200];
};

/* False: the line is none. */
static bool parse_story(const char *line, struct story *ret)
{
    *ret = (struct story){0};
    if (sscanf(line, "seed %" SCNu64 " %199[^\n]", &ret->order.seed, ret->sentence) == 2)
        return true;
    return sscanf(line, "scenario %39s %" SCNu64 " %199[^\n]", ret->scenario, &ret->order.seed,
                  ret->sentence) == 3 &&
           scenario_find(ret->scenario) != NULL;
}

static bool no_more(void *arg, struct run_order *ret)
{
    struct story **next = arg;
    if (*next == NULL)
        return false;
    *ret = (*next)->order;
    ret->scenario = (*next)->scenario[0] == 0 ? NULL : (*next)->scenario;
    *next = NULL;
    return true;
}

static bool story_failed;

static bool story_done(void *arg, const struct run_order *order, const struct run_result *r)
{
    (void)arg;
    story_failed = r->failed;
    if (r->failed)
        print_failure(order, r);
    return true;
}

static int run_file(const struct options *o)
{
    char line[300];
    int failed = 0, count = 0;
    FILE *f = fopen(o->file, "r");
    if (f == NULL) {
        printf("cannot open '%s'\n", o->file);
        return 2;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        struct story story, *next = &story;
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (!parse_story(line, &story)) {
            printf("not a seed with a sentence: %s", line);
            failed++;
            continue;
        }
        run_many(1, no_more, story_done, &next);
        count++;
        failed += story_failed;
        if (story_failed)
            printf("  this seed once found: %s\n", story.sentence);
    }
    fclose(f);
    printf("%d known seeds and schedules, %d failed\n", count, failed);
    return failed != 0;
}

/* ---------------------------------------------------------------- the command line */

static void usage(void)
{
    printf("sim --seed N [--trace]            one world, with all that happens in it\n"
           "sim --seeds FROM-TO [--jobs N]    many worlds; --reach: and what happened in them\n"
           "    --reach-to FILE               ... into a file; sim --reached FILE... sums several, and\n"
           "                                  fails when something never happened\n"
           "sim --scenario NAME --seed N      a directed schedule; 'all' for each of them\n"
           "sim --file FILE                   the seeds and schedules of a file like seeds.txt\n"
           "sim --determinism --seeds F-T     each seed twice: the same trace?\n"
           "sim --mutants [--mutant N] [--starts N] [--seeds-max N] [--jobs N]\n"
           "                                  how many seeds until each known mistake is found\n"
           "    --mutant N                    make that mistake (also with --seed, --seeds)\n"
           "    --starved                     memory runs out now and then (with --seed, --seeds)\n"
           "    --operations N                so many client operations a world\n");
}

static bool parse_seeds(const char *text, struct options *o)
{
    return sscanf(text, "%" SCNu64 "-%" SCNu64, &o->first, &o->last) == 2 && o->first <= o->last;
}

static bool parse_one(int c, const char *text, struct options *o)
{
    uint64_t number = text == NULL ? 0 : strtoull(text, NULL, 10);
    switch (c) {
    case 's':
        o->first = o->last = number;
        o->one_seed = true;
        return true;
    case 'S':
        return parse_seeds(text, o);
    case 'l': /* instead of --seeds, when the long tests are wanted */
        return getenv("DUET_TEST_LONG") == NULL || parse_seeds(text, o);
    case 'm':
        o->mutant = (unsigned)number;
        return true;
    case 'M':
        o->mutants = true;
        return true;
    case 't':
        o->tracing = true;
        return true;
    case 'o':
        o->operations = (uint32_t)number;
        return true;
    case 'j':
        o->jobs = (unsigned)number;
        return number >= 1 && number <= 16;
    case 'd':
        o->check_determinism = true;
        return true;
    case 'c':
        o->scenario = text;
        return true;
    case 'a':
        o->starts = (unsigned)number;
        return number >= 1 && number <= MUTANT_STARTS;
    case 'r':
        o->reach = true;
        return true;
    case 'f':
        o->file = text;
        return true;
    case 'w':
        o->reach_to = text;
        return true;
    case 'h':
        o->starved = true;
        return true;
    case 'R':
        o->reached_count = 1;
        return true;
    case 'x':
        o->seeds_max = number;
        return true;
    default:
        return false;
    }
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option known[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'S'},
        {"mutant", required_argument, NULL, 'm'},
        {"mutants", no_argument, NULL, 'M'},
        {"trace", no_argument, NULL, 't'},
        {"operations", required_argument, NULL, 'o'},
        {"jobs", required_argument, NULL, 'j'},
        {"determinism", no_argument, NULL, 'd'},
        {"scenario", required_argument, NULL, 'c'},
        {"starts", required_argument, NULL, 'a'},
        {"seeds-max", required_argument, NULL, 'x'},
        {"file", required_argument, NULL, 'f'},
        {"long-seeds", required_argument, NULL, 'l'},
        {"reach", no_argument, NULL, 'r'},
        {"reach-to", required_argument, NULL, 'w'},
        {"reached", no_argument, NULL, 'R'},
        {"starved", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    bool good = true;
    for (int c; good && (c = getopt_long(argc, argv, "", known, NULL)) != -1;)
        good = parse_one(c, optarg, o);
    if (o->reached_count > 0) {
        o->reached = argv + optind;
        o->reached_count = argc - optind;
        return good && o->reached_count > 0;
    }
    return good && optind == argc;
}

int main(int argc, char **argv)
{
    struct options o = {
        .first = 1, .last = 10, .jobs = 2, .starts = MUTANT_STARTS, .seeds_max = 500};
    if (!parse(argc, argv, &o)) {
        usage();
        return 2;
    }
    if (o.mutants)
        return run_mutants(&o);
    if (o.reached_count > 0)
        return run_reached(&o);
    if (o.file != NULL)
        return run_file(&o);
    if (o.check_determinism)
        return check_determinism(&o);
    if (o.scenario != NULL && strcmp(o.scenario, "all") == 0)
        return run_scenarios(&o);
    if (o.scenario != NULL && scenario_find(o.scenario) == NULL) {
        printf("there is no scenario '%s'\n", o.scenario);
        return 2;
    }
    return o.one_seed ? run_one(&o) : run_seeds(&o);
}
