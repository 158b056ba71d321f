/* Steps: runs a checkpoint one transaction at a time, so that other things happen in between.
 *
 * checkpoint_run() is blocking code. It is run again for each step, a transaction further each
 * time; what came before is written again, the same rows with the same values.
 */
#ifndef TESTS_SIM_STEPS_H
#define TESTS_SIM_STEPS_H

#include "storage/checkpoint.h"

/* Run c up to its number-th transaction (from 1). *ret_ended: that was the last one. */
enum status steps_run(struct table *table, const struct checkpoint *c, uint32_t number,
                      bool *ret_ended);

#endif
