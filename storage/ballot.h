/* Ballot: the order of rounds (struct ballot, proto/message.h): by counter, then node, then
 * incarnation. Counter 0 is no round at all, below every other. */
#ifndef STORAGE_BALLOT_H
#define STORAGE_BALLOT_H

#include "proto/message.h"

/* <0, 0, >0 */
static inline int ballot_compare(const struct ballot *a, const struct ballot *b)
{
    if (a->counter != b->counter)
        return a->counter < b->counter ? -1 : 1;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    if (a->incarnation != b->incarnation)
        return a->incarnation < b->incarnation ? -1 : 1;
    return 0;
}

#endif
