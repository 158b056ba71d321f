/* Zipf: ranks that are drawn as often as in a zipfian distribution: rank r (from 0) with a probability
 * in proportion to 1 / (r + 1)^theta. By the method of Gray et al., "Quickly generating billion-record
 * synthetic databases" (SIGMOD 1994). */
#ifndef CLIENT_CLI_ZIPF_H
#define CLIENT_CLI_ZIPF_H

#include <stdint.h>

struct zipf {
    uint64_t count;
    double theta, zeta, alpha, eta, second; /* second: up to where it is rank 0 or 1 */
};

/* count is 1 or more, theta above 0 and below 1. Takes no longer for many ranks than for few. */
void zipf_init(struct zipf *z, uint64_t count, double theta);
/* The rank for a number that was drawn evenly from 0 to below 1. */
uint64_t zipf_rank(const struct zipf *z, double even);

#endif
