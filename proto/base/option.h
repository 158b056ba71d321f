/* Option: one table per process; from it come defaults, flags, file and environment, --help,
 * --check-config and --dump-config.
 *
 * Order: default < file (ZPL, read by CZMQ's zconfig) < environment (DUET_NAME) < flag
 * (--name=value or --name value). Names are the same everywhere; in flags '-' and '_' mean the same.
 * An unknown name anywhere is an error with "did you mean".
 *
 * A process declares its table once:
 *
 *   #define NODE_OPTIONS(X) \
 *       X(TEXT, name,      "",     0, 64,   "",   "this node's name in the cluster file") \
 *       X(UINT, log_bytes, "4096", 1, 65536,"MiB","log kept for peers")
 *   struct node_options { NODE_OPTIONS(OPTION_FIELD) };
 *   #define ROW(...) OPTION_ROW(struct node_options, __VA_ARGS__)
 *   static const struct option_row rows[] = { NODE_OPTIONS(ROW) };
 *
 * kinds: UINT (uint64_t; min and max checked), FLAG (bool; default 0 or 1), TEXT (const char *,
 * at most max bytes, no control characters and not both kinds of quotes, for ZPL could not write
 * them), COMMAND (bool, default 0: only as a flag, never in a file, the environment or a dump; for
 * --help, --check-config and their like).
 *
 * The order holds whichever way the sources are read, so a process may read its flags first to
 * learn the name of the file.
 */
#ifndef PROTO_BASE_OPTION_H
#define PROTO_BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/status.h"

enum option_kind { OPTION_UINT, OPTION_FLAG, OPTION_TEXT, OPTION_COMMAND };

struct option_row {
    enum option_kind kind;
    const char *name;
    const char *default_text;
    uint64_t min, max;
    const char *unit;
    const char *sentence;
    size_t offset; /* of the field in the process's options struct */
};

#define OPTION_TYPE_UINT uint64_t
#define OPTION_TYPE_FLAG bool
#define OPTION_TYPE_TEXT const char *
#define OPTION_TYPE_COMMAND bool
#define OPTION_FIELD(kind, name, def, min, max, unit, sentence) OPTION_TYPE_##kind name;
#define OPTION_ROW(type, kind, name, def, min, max, unit, sentence)                                \
    {OPTION_##kind, #name, def, min, max, unit, sentence, offsetof(type, name)},
/* default_text is always a string literal: "4096", "0", "tcp://127.0.0.1". */

struct option_set; /* rows, where each value came from, and the memory behind TEXT values */

/* values points at the process's options struct; it is filled with the defaults. TEXT values live
 * until the next option_read_*() or option_destroy(). rows and values are borrowed. */
struct option_set *option_new(const struct option_row *rows, size_t count, void *values);
void option_destroy(struct option_set **set_p);

/* Each returns STATUS_OK, or STATUS_CONFIG / STATUS_USAGE / STATUS_IO with the place (file and
 * name, variable, flag), what is wrong and what is allowed in reterr. Nothing is half-taken on
 * error. */

/* One `name = value` a line, comments with #, no sections, each name once. */
enum status option_read_file(struct option_set *set, const char *path, struct error *reterr);
/* Every variable that begins with prefix: DUET_NAME sets name. DUET_ROUTERS belongs to the CLI and
 * the library, whose users may start a process too: a table without `routers` passes it over. */
enum status option_read_environment(struct option_set *set, const char *prefix,
                                    struct error *reterr);
/* Reads flags of argv[1..argc); the rest is left in order in ret_rest (argc pointers of room),
 * *ret_rest_count. "--" ends the flags. A FLAG or COMMAND takes a value only as --name=value; alone
 * it means 1. */
enum status option_read_flags(struct option_set *set, int argc, char **argv, char **ret_rest,
                              int *ret_rest_count, struct error *reterr);

/* The table for --help: name, default, range, unit, sentence. */
void option_print_help(const struct option_set *set, FILE *to);
/* ZPL that option_read_file() reads back; a comment beside each value tells where it came from
 * (default, file, environment, flag). */
void option_dump(const struct option_set *set, FILE *to);

#endif
