#include "proto/base/status.h"

#include <stdio.h>
#include <string.h>

#include "proto/base/ensure.h"

struct row {
    const char *name;
    const char *words;
    bool retry;
    bool doubt;
    int http;
    int exit_code;
};

static const struct row rows[STATUS_COUNT] = {
#define X(name, wire, retry, doubt, http, exit_code, words)                                        \
    [STATUS_##name] = {#name, words, retry, doubt, http, exit_code},
    STATUS_MAP(X)
#undef X
};

static const struct row unknown = {"UNKNOWN", "unknown status", false, false, 500, 5};

static const struct row *row_of(enum status s)
{
    return (unsigned)s < STATUS_COUNT ? &rows[s] : &unknown;
}

const char *status_text(enum status s)
{
    return row_of(s)->words;
}

const char *status_name(enum status s)
{
    return row_of(s)->name;
}

bool status_retry(enum status s)
{
    return row_of(s)->retry;
}

bool status_in_doubt(enum status s)
{
    return row_of(s)->doubt;
}

int status_exit_code(enum status s)
{
    return row_of(s)->exit_code;
}

int status_http(enum status s)
{
    return row_of(s)->http;
}

enum status status_from_wire(uint32_t number)
{
    return number < STATUS_COUNT ? (enum status)number : STATUS_UNSUPPORTED;
}

enum status error_set(struct error *reterr, enum status s, const char *format, ...)
{
    if (reterr == NULL)
        return s;
    reterr->status = s;
    va_list args;
    va_start(args, format);
    vsnprintf(reterr->message, sizeof reterr->message, format, args);
    va_end(args);
    return s;
}

enum status error_wrap(struct error *reterr, const char *format, ...)
{
    ENSURE(reterr != NULL);
    char inner[ERROR_MESSAGE_SIZE];
    memcpy(inner, reterr->message, sizeof inner);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(reterr->message, sizeof reterr->message, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used + 2 < sizeof reterr->message)
        snprintf(reterr->message + used, sizeof reterr->message - (size_t)used, ": %.*s",
                 (int)(sizeof inner - (size_t)used - 3), inner);
    return reterr->status;
}
