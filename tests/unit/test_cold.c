/* Operations that wait for the table. */
#include "storage/cold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void park(struct cold *c, struct cold_key *k, uint64_t arrival)
{
    struct operation op = {.kind = KIND_READ, .arrival = arrival, .key = bytes_text("key")};
    assert_int_equal(cold_park(c, k, &op), STATUS_OK);
}

static void assert_next(struct cold *c, struct cold_key *k, uint64_t arrival)
{
    struct cold_operation *op = cold_next(c, k);
    assert_non_null(op);
    assert_int_equal(op->operation.arrival, arrival);
    free(op);
}

/* W8. One that was held meanwhile comes late, and belongs before what came behind it. */
static void test_cold__operations_go_on_in_the_order_of_their_arrival(void **state)
{
    (void)state;
    struct cold c;
    cold_init(&c);
    struct cold_key *k = cold_begin(&c, 0, 1, 7, bytes_text("key"));
    assert_non_null(k);
    park(&c, k, 5);
    park(&c, k, 9);
    park(&c, k, 3);
    park(&c, k, 7);
    park(&c, k, 10);
    assert_int_equal(c.operations_count, 5);
    assert_next(&c, k, 3);
    park(&c, k, 8); /* while they are taken out */
    assert_next(&c, k, 5);
    assert_next(&c, k, 7);
    assert_next(&c, k, 8);
    assert_next(&c, k, 9);
    assert_next(&c, k, 10);
    assert_null(cold_next(&c, k));
    park(&c, k, 1);
    assert_next(&c, k, 1);
    cold_end(&c, &k);
    assert_null(k);
    assert_null(cold_find(&c, 1, 7, bytes_text("key")));
    cold_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cold__operations_go_on_in_the_order_of_their_arrival),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
