/* Flags: one table of everything that begins with a dash.
 *
 * Flags may stand before and after the command and its words; "--" ends them, "-" and negative
 * numbers are words. --name=value and --name value are the same; so are '-' and '_' in names.
 *
 * Help, manual page and completion are made from the table. A value column with '|' in it lists all
 * that may be given; any other one is a name for people.
 */
#ifndef CLIENT_CLI_FLAGS_H
#define CLIENT_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/status.h"

/* For which commands a flag is. */
enum flag_group {
    FLAG_GLOBAL = 1,
    FLAG_CONDITION = 2,
    FLAG_TRANSFER = 4,
    FLAG_BENCH = 8,
    FLAG_EXPIRY = 16,
    FLAG_EXPIRY_CONDITION = 32,
    FLAG_CHECK = 64,
    FLAG_PING = 128,
    FLAG_RANGE = 256, /* which keys of a hash tag */
    FLAG_SCAN = 512,
    FLAG_CLEAR = 1024,
    FLAG_READ = 2048,
};

/* clang-format off */
#define CLI_FLAGS(X)                                                                               \
    /* kind  field        letter default   group            value    sentence                  */  \
    X(TEXT, routers,      0,   "",         FLAG_GLOBAL,     "LIST",                                \
      "router addresses (or DUET_ROUTERS) [tcp://127.0.0.1:7400]")                                 \
    X(TEXT, context,      0,   "",         FLAG_GLOBAL,     "NAME",                                \
      "the routers of this context (see `duet help context`)")                                     \
    X(UINT, timeout,      0,   "5000",     FLAG_GLOBAL,     "MS",                                  \
      "how long one operation may take")                                                           \
    X(TEXT, output,       'o', "auto",     FLAG_GLOBAL,     "auto|table|json|jsonl|raw|hex",       \
      "how results are written; raw: exact bytes, nothing else")                                   \
    X(TEXT, key_format,   0,   "raw",      FLAG_GLOBAL,     "raw|hex|base64",                      \
      "how keys are written")                                                                      \
    X(BOOL, quiet,        'q', "",         FLAG_GLOBAL,     "",                                    \
      "print only what was asked for, no progress")                                                \
    X(BOOL, help,         'h', "",         FLAG_GLOBAL,     "",                                    \
      "show help")                                                                                 \
    X(BOOL, if_absent,    0,   "",         FLAG_CONDITION,  "",                                    \
      "only if the key does not exist")                                                            \
    X(BOOL, if_present,   0,   "",         FLAG_CONDITION,  "",                                    \
      "only if the key exists")                                                                    \
    X(TEXT, if_version,   0,   "",         FLAG_CONDITION,  "E.S",                                 \
      "only if the key has this version")                                                          \
    X(TEXT, if_value,     0,   NULL,       FLAG_CONDITION,  "VALUE",                               \
      "only if the key has this value")                                                            \
    X(TEXT, ttl,          0,   NULL,       FLAG_EXPIRY,     "TIME",                                \
      "let the key go after this time: 500ms, 10s, 5m, 2h, 7d")                                    \
    X(UINT, expire_at,    0,   "0",        FLAG_EXPIRY,     "MS",                                  \
      "let the key go at this time, in ms since 1970")                                             \
    X(BOOL, keep_ttl,     0,   "",         FLAG_EXPIRY,     "",                                    \
      "keep the key's expiry, which a put clears")                                                 \
    X(BOOL, if_no_expiry, 0,   "",         FLAG_EXPIRY_CONDITION, "",                              \
      "only if the key has no expiry")                                                             \
    X(BOOL, if_expiry,    0,   "",         FLAG_EXPIRY_CONDITION, "",                              \
      "only if the key has an expiry")                                                             \
    X(BOOL, if_later,     0,   "",         FLAG_EXPIRY_CONDITION, "",                              \
      "only if the key then goes later (without an expiry it never goes)")                         \
    X(BOOL, if_earlier,   0,   "",         FLAG_EXPIRY_CONDITION, "",                              \
      "only if the key then goes earlier")                                                         \
    X(TEXT, format,       0,   "",         FLAG_TRANSFER | FLAG_CHECK, "tsv|jsonl|nagios|prometheus", \
      "records: tsv or jsonl (by the name's end, else tsv); check: nagios, or prometheus")         \
    X(BOOL, histogram,    0,   "",         FLAG_PING,       "",                                    \
      "show how the times are spread, of 1000 unless --count is given")                            \
    X(UINT, count,        0,   "0",        FLAG_PING,       "N",                                   \
      "ask so many times, one after the other (0: once)")                                          \
    X(TEXT, prefix,       0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag that begin with this")                                            \
    X(TEXT, from,         0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag from this one on")                                                \
    X(TEXT, to,           0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag before this one")                                                 \
    X(TEXT, read,         0,   "",         FLAG_READ,       "linearizable|confirm|any",            \
      "how sure a read is (or DUET_READ, or the context's) [linearizable]")                        \
    X(UINT, limit,        0,   "0",        FLAG_SCAN,       "N",                                   \
      "not more than so many (0: all)")                                                            \
    X(BOOL, keys_only,    0,   "",         FLAG_SCAN,       "",                                    \
      "without their values")                                                                      \
    X(BOOL, yes,          0,   "",         FLAG_CLEAR,      "",                                    \
      "really do it")                                                                              \
    X(UINT, connections,  'c', "50",       FLAG_BENCH,      "N",                                   \
      "connections")                                                                               \
    X(UINT, pipeline,     'p', "16",       FLAG_BENCH,      "N",                                   \
      "operations in flight on each connection, 1 to 512")                                         \
    X(UINT, threads,      0,   "1",        FLAG_BENCH,      "N",                                   \
      "threads that share the connections, 1 to 16")                                               \
    X(UINT, seconds,      0,   "0",        FLAG_BENCH,      "N",                                   \
      "how long (10 when --operations is not given either)")                                       \
    X(UINT, operations,   'n', "0",        FLAG_BENCH,      "N",                                   \
      "how many operations")                                                                       \
    X(TEXT, mix,          0,   "mixed",    FLAG_BENCH,      "read|write|mixed|fill",               \
      "mixed: see --reads; fill: each key once, in order")                                         \
    X(UINT, reads,        0,   "50",       FLAG_BENCH,      "PERCENT",                             \
      "how many operations of the mix mixed are reads")                                            \
    X(UINT, rate,         0,   "0",        FLAG_BENCH,      "N",                                   \
      "open loop: so many operations a second, whether answers come or not (0: closed loop)")      \
    X(TEXT, distribution, 0,   "uniform",  FLAG_BENCH,      "uniform|zipfian",                     \
      "how often which key comes")                                                                 \
    X(TEXT, theta,        0,   "0.99",     FLAG_BENCH,      "NUMBER",                              \
      "how uneven zipfian is, above 0 and below 1")                                                \
    X(UINT, keys,         'k', "100000",   FLAG_BENCH,      "N",                                   \
      "different keys")                                                                            \
    X(UINT, value_size,   'd', "100",      FLAG_BENCH,      "BYTES",                               \
      "size of a value")                                                                           \
    X(UINT, value_size_max, 0, "0",        FLAG_BENCH,      "BYTES",                               \
      "sizes from --value-size to this, evenly (0: all alike)")
/* clang-format on */

#define FLAG_TYPE_TEXT const char *
#define FLAG_TYPE_UINT uint64_t
#define FLAG_TYPE_BOOL bool

struct flags {
#define X(kind, name, letter, def, group, value, sentence) FLAG_TYPE_##kind name;
    CLI_FLAGS(X)
#undef X
    uint64_t given; /* bit i: row i of the table was given */
};

enum flag_kind { FLAG_KIND_TEXT, FLAG_KIND_UINT, FLAG_KIND_BOOL };

/* A row of the table, for those who print it. */
struct flag_row {
    enum flag_kind kind;
    const char *name; /* with '_' */
    char letter;      /* 0: none */
    const char *default_text;
    unsigned group;
    const char *value, *sentence;
    size_t offset;
};

extern const struct flag_row flags_rows[];
extern const size_t flags_rows_count;

void flags_default(struct flags *flags);

/* Set what argv gives, over what flags holds already; what is left over (the command and its words)
 * goes to words, which has room for argc pointers. STATUS_OK or STATUS_USAGE. */
enum status flags_parse(int argc, char **argv, struct flags *flags, char **words,
                        int *ret_words_count, struct error *reterr);

/* The first row that was given although it belongs to none of these groups; NULL: there is none. */
const struct flag_row *flags_foreign(const struct flags *flags, unsigned groups);

/* "--if-absent", in text of at least FLAGS_LONG_SIZE bytes. Returns text. */
#define FLAGS_LONG_SIZE 40
const char *flags_long(const struct flag_row *row, char *text);

/* Does the row's default say anything to people? 0 means that something is not asked for. */
bool flags_default_shown(const struct flag_row *row);

/* Choices ("a|b|c") for people ("a, b, c"), in text of at least this size. Returns text. */
#define FLAGS_CHOICES_SIZE 128
const char *flags_choices(const char *choices, char *text);

/* The index of text among choices; -1: it is none of them. */
int flags_choice(const char *choices, const char *text);

/* The candidate that looks most like word, or NULL when none does. */
const char *flags_similar(const char *word, const char *const *candidates, size_t count);

#endif
