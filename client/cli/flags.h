/* Flags: one table of everything that begins with a dash.
 *
 * Flags may stand before and after the command and its words; "--" ends them, "-" and negative
 * numbers are words. --name=value and --name value are the same; so are '-' and '_' in names.
 */
#ifndef CLIENT_CLI_FLAGS_H
#define CLIENT_CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "proto/base/status.h"

/* For which commands a flag is. */
enum flag_group {
    FLAG_GLOBAL = 1,
    FLAG_CONDITION = 2,
    FLAG_TRANSFER = 4,
    FLAG_BENCH = 8,
    FLAG_EXPIRY = 16,
    FLAG_EXPIRY_CONDITION = 32,
    FLAG_RANGE = 256, /* which keys of a hash tag */
    FLAG_SCAN = 512,
    FLAG_CLEAR = 1024,
};

/* clang-format off */
#define CLI_FLAGS(X)                                                                               \
    /* kind  field        letter default   group            value    sentence                  */  \
    X(TEXT, routers,      0,   "",         FLAG_GLOBAL,     "LIST",                                \
      "router addresses (or DUET_ROUTERS); default tcp://127.0.0.1:7400")                          \
    X(UINT, timeout,      0,   "5000",     FLAG_GLOBAL,     "MS",                                  \
      "how long one operation may take")                                                           \
    X(TEXT, output,       'o', "auto",     FLAG_GLOBAL,     "FORMAT",                              \
      "table, json, jsonl, raw (exact bytes) or hex")                                              \
    X(TEXT, key_format,   0,   "raw",      FLAG_GLOBAL,     "FORMAT",                              \
      "how keys are written: raw, hex or base64")                                                  \
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
    X(TEXT, format,       0,   "",         FLAG_TRANSFER,   "FORMAT",                              \
      "tsv (default) or jsonl")                                                                    \
    X(TEXT, prefix,       0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag that begin with this")                                            \
    X(TEXT, from,         0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag from this one on")                                                \
    X(TEXT, to,           0,   NULL,       FLAG_RANGE,      "KEY",                                 \
      "only keys of the hash tag before this one")                                                 \
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
    X(TEXT, mix,          0,   "mixed",    FLAG_BENCH,      "MIX",                                 \
      "read, write, mixed (half of each) or fill (each key once, in order)")                       \
    X(UINT, keys,         'k', "100000",   FLAG_BENCH,      "N",                                   \
      "different keys")                                                                            \
    X(UINT, value_size,   'd', "100",      FLAG_BENCH,      "BYTES",                               \
      "size of a value")
/* clang-format on */

#define FLAG_TYPE_TEXT const char *
#define FLAG_TYPE_UINT uint64_t
#define FLAG_TYPE_BOOL bool

struct flags {
#define X(kind, name, letter, def, group, value, sentence) FLAG_TYPE_##kind name;
    CLI_FLAGS(X)
#undef X
    unsigned groups; /* of the flags that were given */
};

/* Fill flags from argv; what is left over (the command and its words) goes to words, which has room
 * for argc pointers. STATUS_OK or STATUS_USAGE. */
enum status flags_parse(int argc, char **argv, struct flags *flags, char **words,
                        int *ret_words_count, struct error *reterr);

/* The lines of --help for the flags of these groups. */
void flags_print(FILE *to, unsigned groups);

/* The candidate that looks most like word, or NULL when none does. */
const char *flags_similar(const char *word, const char *const *candidates, size_t count);

#endif
