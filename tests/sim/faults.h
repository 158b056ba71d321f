/* Faults: what goes wrong at random while a world is in its first phase. Each trouble has its own
 * mean interval in the knobs; zero switches it off. */
#ifndef TESTS_SIM_FAULTS_H
#define TESTS_SIM_FAULTS_H

struct faults;
struct world;

struct faults *faults_new(struct world *w);
void faults_destroy(struct faults **f_p);

void faults_start(struct faults *f);
/* All troubles end: what is down starts, what is slow is fast, what is cut is whole. */
void faults_calm(struct faults *f);

#endif
