/* Mutate: precondition and mutation -> effect and result. Pure. */
#ifndef STORAGE_MUTATE_H
#define STORAGE_MUTATE_H

#include "storage/record.h"

#define MUTATE_SCRATCH_SIZE 32

struct mutate_outcome {
    enum status status;   /* OK, CONDITION, NOTFOUND (deleting an absent key), NOTNUMBER, OVERFLOW */
    bool has_effect;      /* false: the write is logged without an effect */
    struct effect effect; /* key and digest are the caller's to fill in; value may point into scratch,
                             into w or into current */
    bool has_result;      /* what `want` asked for (old or new value); a failed precondition with
                             WANT_OLD or WANT_NEW gives the current value when there is one */
    struct bytes result;
};

/* Judge w against current (value: decimal text for increments, "-9223372036854775808" ..
 * "9223372036854775807", no leading zeros, no plus sign; an absent key counts as 0). scratch holds
 * the new text of an increment and must live as long as ret. Never fails: what is wrong is in
 * ret->status. */
void mutate(const struct write *w, const struct item *current,
            char scratch[static MUTATE_SCRATCH_SIZE], struct mutate_outcome *ret);

#endif
