/* Status: the one table of outcomes.
 *
 * Enum, words, wire number, the client's retry rule, the CLI's exit code and the HTTP status all
 * come from it. Wire numbers are part of the protocol: never renumber, only add.
 *
 * retry: trying the same operation again, with the same ids, may succeed.
 * doubt: a write with this answer may or may not have happened. Every other answer that is not OK
 *        says that this attempt changed nothing.
 */
#ifndef PROTO_BASE_STATUS_H
#define PROTO_BASE_STATUS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* clang-format off */
#define STATUS_MAP(X)                                                                              \
    /* name         wire  retry  doubt  http exit  words                                       */  \
    X(OK,              0, false, false, 200, 0, "ok")                                              \
    X(NOTFOUND,        1, false, false, 404, 1, "no such key")                                     \
    X(CONDITION,       2, false, false, 412, 6, "the condition does not hold")                     \
    X(WRONGEPOCH,      3, true,  false, 503, 5, "the sender's map differs from the node's")        \
    X(BUSY,            4, true,  false, 429, 5, "too many requests in flight")                     \
    X(UNAVAILABLE,     5, true,  false, 503, 5, "a required copy does not answer")                 \
    X(INDOUBT,         6, true,  true,  504, 4, "the write may or may not have happened")          \
    X(MALFORMED,       7, false, false, 400, 2, "the message does not decode")                     \
    X(TOOBIG,          8, false, false, 413, 2, "larger than the limit")                           \
    X(STALE,           9, false, true,  409, 5, "the operation's id was given up already")         \
    X(NEEDTOKEN,      10, true,  false, 503, 5, "a fresh ptime token is needed")                   \
    X(TOOOLD,         11, false, true,  504, 4, "too old to know whether it happened")             \
    X(ASKPRIMARY,     12, true,  false, 503, 5, "only the primary can answer this now")            \
    X(FULL,           13, true,  false, 503, 5, "the disk is nearly full, writes are refused")     \
    X(ABORTED,        14, false, false, 409, 5, "it did not happen and never will")                \
    X(UNSUPPORTED,    15, false, false, 400, 5, "not supported by this version")                   \
    X(NOTNUMBER,      16, false, false, 409, 5, "the value is no integer, or no number")           \
    X(OVERFLOW,       17, false, false, 409, 5, "the result is larger than is possible")           \
    X(TIMEOUT,        18, true,  false, 504, 4, "no answer before the deadline, nothing changed")  \
    X(FORMAT,         19, false, false, 500, 5, "a format that this program does not read")        \
    X(IO,             20, false, false, 500, 5, "input or output failed")                          \
    X(CORRUPT,        21, false, false, 500, 5, "stored data is damaged")                          \
    X(LOCKED,         22, false, false, 500, 5, "in use by another process")                       \
    X(CONFIG,         23, false, false, 500, 2, "the configuration is wrong")                      \
    X(NOMEMORY,       24, true,  false, 503, 5, "out of memory or at a limit")                     \
    X(NOCONNECTION,   25, true,  false, 503, 3, "cannot connect")                                  \
    X(USAGE,          26, false, false, 400, 2, "wrong use")                                       \
    X(WRONGCLUSTER,   27, false, false, 409, 5, "belongs to another cluster")
/* clang-format on */

enum status {
#define X(name, wire, retry, doubt, http, exit_code, words) STATUS_##name = (wire),
    STATUS_MAP(X)
#undef X
        STATUS_COUNT
};

/* The words for a human; "unknown status" for a number that this build does not know. */
const char *status_text(enum status s);
/* The name as in this table, for logs and JSON. */
const char *status_name(enum status s);
bool status_retry(enum status s);
bool status_in_doubt(enum status s);
int status_exit_code(enum status s);
int status_http(enum status s);

/* Turn a number from the wire into a status; unknown numbers become STATUS_UNSUPPORTED. */
enum status status_from_wire(uint32_t number);

/* What went wrong, for a human. Lives on the caller's stack. */
#define ERROR_MESSAGE_SIZE 320
struct error {
    enum status status;
    char message[ERROR_MESSAGE_SIZE];
};

/* Fill reterr (may be NULL) and return s, so that `return error_set(...)` is one line. */
enum status error_set(struct error *reterr, enum status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put context in front of the message that reterr already has ("context: message"); returns
 * reterr's status. reterr may not be NULL here. */
enum status error_wrap(struct error *reterr, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
