/* Survey: what the processes of a cluster say of themselves.
 *
 * Every router that was named, and every node that they know, is asked over a connection of its
 * own, all at once: one that is down shows as down rather than being worked around. Findings are
 * problems, each with what it means and what to do.
 */
#ifndef CLIENT_CLI_SURVEY_H
#define CLIENT_CLI_SURVEY_H

#include "client/cli/ask.h"
#include "client/cli/command.h"
#include "client/session.h"
#include "proto/clustermap.h"

/* One process and its STATUS. */
struct survey_process {
    const char *address;
    bool answered;
    bool up;         /* it answered as what it should be */
    char wrong[320]; /* when it is not: why */
    uint64_t elapsed_ns;
    struct status_message status; /* empty when not up */
    struct arena arena;           /* where it lies: one message per arena */
};

struct survey {
    size_t routers_count;
    struct survey_process routers[SESSION_ROUTERS_MAX];
    struct clustermap *map;       /* the newest that any router knows; NULL: nobody told */
    struct survey_process *nodes; /* map->nodes_count of them, by index; NULL with map */

    /* Over the routers, while it was looked: 0 seconds when nobody looked for long enough. */
    double seconds;
    uint64_t reads, writes;

    struct duet_options *options; /* what the addresses point into */
};

/* Ask all. With rates it takes SURVEY_RATE_MS longer. 0, or the exit code when the addresses are
 * wrong (printed). s is to be given to survey_fini() in any case. */
#define SURVEY_RATE_MS 300
int survey_take(const struct context *c, bool rates, struct survey *s);
void survey_fini(struct survey *s);

/* The value under this name, 0 when there is none. */
uint64_t survey_value(const struct survey_process *process, const char *name);
/* Does this router reach the node? */
bool survey_reaches(const struct survey_process *router, const struct clustermap_node *node);

/* All of it, with the problems: {"ok", "cluster", "workload", "routers", "nodes", "problems"}. */
json_t *survey_report(const struct survey *s);
/* 0: all is well; 3: no router answers; 5: something is wrong. */
int survey_exit_code(const struct survey *s, const json_t *report);

/* The newest map that any router knows. NULL: printed why, *ret_exit is set. */
struct clustermap *survey_map(const struct context *c, int *ret_exit);

#endif
