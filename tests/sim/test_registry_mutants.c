/* The registry's mutants (tests/README.md), each hunted in the worlds of registry_world.h. They run
 * here because only the simulator's build knows mutants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/registry_world.h"

#define SEEDS_MAX 2000

unsigned mutant; /* which mistake the code under test makes; 0: none */

/* The first seed that shows it; 0: none does. */
static uint64_t hunt(unsigned number, bool restarts, char failure[static 200])
{
    uint64_t found = 0;
    mutant = number;
    for (uint64_t seed = 1; seed <= SEEDS_MAX && found == 0; seed++) {
        struct registry_world_result r;
        registry_world_run(seed, restarts, &r);
        if (r.failure[0] == 0)
            continue;
        found = seed;
        snprintf(failure, 200, "%s", r.failure);
    }
    mutant = 0;
    return found;
}

static void assert_found(unsigned number, bool restarts)
{
    char failure[200];
    uint64_t seed = hunt(number, restarts, failure);
    assert_int_not_equal(seed, 0);
    print_message("mutant %u: seed %" PRIu64 ", %s\n", number, seed, failure);
}

static void test_mutant_16__a_value_that_was_only_seen_is_told(void **state)
{
    (void)state;
    assert_found(16, false);
}

static void test_mutant_40__a_ballot_is_used_again_after_a_restart(void **state)
{
    (void)state;
    assert_found(40, true);
}

static void test_mutant_41__an_acceptor_forgets_a_promise(void **state)
{
    (void)state;
    assert_found(41, false);
}

static void test_mutant_42__voters_change_without_the_joint_step(void **state)
{
    (void)state;
    assert_found(42, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutant_16__a_value_that_was_only_seen_is_told),
        cmocka_unit_test(test_mutant_40__a_ballot_is_used_again_after_a_restart),
        cmocka_unit_test(test_mutant_41__an_acceptor_forgets_a_promise),
        cmocka_unit_test(test_mutant_42__voters_change_without_the_joint_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
