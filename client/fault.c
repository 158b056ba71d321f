#include "client/fault.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/message.h"

#define X(name, wire, retry, doubt, http, exit_code, words)                                        \
    static_assert((int)DUET_##name == (int)STATUS_##name, #name);
STATUS_MAP(X)
#undef X

uint32_t fault_flags(enum status s, uint32_t answer_flags)
{
    if ((answer_flags & ANSWER_IN_DOUBT) != 0)
        return DUET_IN_DOUBT;
    if ((answer_flags & ANSWER_RETRY) != 0 || status_retry(s))
        return DUET_RETRYABLE;
    bool fatal = s == STATUS_MALFORMED || s == STATUS_TOOBIG || s == STATUS_UNSUPPORTED ||
                 s == STATUS_CONFIG || s == STATUS_USAGE || s == STATUS_WRONGCLUSTER;
    return fatal ? DUET_FATAL : 0;
}

enum duet_code fault_set(struct duet_error *reterr, enum duet_code code, const char *format, ...)
{
    if (reterr == NULL)
        return code;
    reterr->code = code;
    reterr->flags = fault_flags((enum status)code, 0);
    va_list args;
    va_start(args, format);
    vsnprintf(reterr->message, sizeof reterr->message, format, args);
    va_end(args);
    return code;
}

const char *duet_code_text(enum duet_code code)
{
    return status_text((enum status)code);
}

const char *duet_code_name(enum duet_code code)
{
    return status_name((enum status)code);
}

#define TEXT_OF(x)       TEXT_OF_VALUE(x)
#define TEXT_OF_VALUE(x) #x

const char *duet_version_text(void)
{
    return TEXT_OF(DUET_VERSION_MAJOR) "." TEXT_OF(DUET_VERSION_MINOR) "." TEXT_OF(
        DUET_VERSION_PATCH);
}
