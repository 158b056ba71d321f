/* Mutant: deliberate mistakes, kept so that the simulator can prove that it would find them.
 *
 * Numbers are the traps of the design's replication page. Only a simulator build defines
 * DUET_MUTANTS (and the variable); everywhere else MUTANT(n) is false and leaves no code. */
#ifndef PROTO_BASE_MUTANT_H
#define PROTO_BASE_MUTANT_H

#include <stdbool.h>

#ifdef DUET_MUTANTS
extern unsigned mutant; /* 0: none */
#define MUTANT(n) (mutant == (n))
#else
#define MUTANT(n) false
#endif

#endif
