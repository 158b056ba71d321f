#define _GNU_SOURCE /* SCHED_BATCH */

#include "proto/base/scheduling.h"

#include <sched.h>

void scheduling_batch(void)
{
    struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_BATCH, &none); /* refused: slower, nothing else */
}
