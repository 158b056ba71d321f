/* Mutant: one of the known traps (replication.md, 10), switched on by its number.
 *
 * Only the simulator is built with DUET_MUTANTS; it defines `mutant` and proves that it finds each
 * of them. In every other build MUTANT() is false and the compiler drops the branch.
 */
#ifndef STORAGE_MUTANT_H
#define STORAGE_MUTANT_H

#include <stdbool.h>

#ifdef DUET_MUTANTS
extern unsigned mutant; /* 0: none */
#define MUTANT(number) (mutant == (number))
#else
#define MUTANT(number) false
#endif

#endif
