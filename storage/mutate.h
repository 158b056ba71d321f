/* Mutate: precondition and mutation -> effect and result. Pure. */
#ifndef STORAGE_MUTATE_H
#define STORAGE_MUTATE_H

#include "proto/base/buffer.h"
#include "storage/decimal.h"
#include "storage/record.h"

#define MUTATE_TEXT_SIZE (DECIMAL_TEXT_MAX + 1)

/* What one judgement needs beside its operands; an outcome may point into it. */
struct mutate_work {
    uint32_t value_size_max;     /* no value grows beyond */
    uint64_t now_ms;             /* the partition's time, since 1970 */
    char text[MUTATE_TEXT_SIZE]; /* the new text of an increment */
    struct buffer grown;         /* the new value of APPEND and SET_RANGE; else it has no memory */
};

void mutate_work_init(struct mutate_work *work, uint32_t value_size_max, uint64_t now_ms);
void mutate_work_fini(struct mutate_work *work);

struct mutate_outcome {
    /* OK, CONDITION, NOTFOUND (deleting an absent key, or its expiry), NOTNUMBER, OVERFLOW (also a value grown
     * beyond value_size_max); NOMEMORY: nothing was judged. */
    enum status status;
    bool has_effect;      /* false: the write is logged without an effect */
    struct effect effect; /* key and digest are the caller's to fill in; value may point into the work,
                             into w or into current */
    bool has_result;      /* what `want` asked for (old or new value); a failed precondition with
                             WANT_OLD or WANT_NEW gives the current value when there is one */
    struct bytes result;
};

/* Judge w against current (value: for INCREMENT decimal text, "-9223372036854775808" ..
 * "9223372036854775807", no leading zeros, no plus sign; for INCREMENT_DECIMAL see decimal.h; an
 * absent key counts as 0, or as empty). current is not past its expiry: that is the caller's to see to.
 * All but PUT and SET_EXPIRY keep an expiry. work was initialized and must live
 * as long as ret. Never fails: what is wrong is in ret->status. */
void mutate(const struct write *w, const struct item *current, struct mutate_work *work,
            struct mutate_outcome *ret);

#endif
