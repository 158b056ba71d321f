/* Memory: what of it runs out. In a starved world one allocation now and then fails, but only while
 * the product's own code is at work; the simulator's own always find room.
 *
 * The program is linked with --wrap of malloc, calloc, realloc and aligned_alloc. One world a process.
 */
#ifndef TESTS_SIM_MEMORY_H
#define TESTS_SIM_MEMORY_H

#include <stdint.h>

/* From now on one allocation in so many fails, and how many that is, the seed says; and no more. */
void memory_starve(uint64_t seed);
void memory_feed(void);

/* The product's code is at work from here on; and it is not. */
void memory_work(void);
void memory_rest(void);

/* How many allocations have failed. */
uint64_t memory_failures(void);

#endif
