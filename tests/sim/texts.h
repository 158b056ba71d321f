/* Texts: the bytes behind the checker's values.
 *
 * A number is decimal text of 64 bits. A plain text is "x<number>:" and filling, so that each number
 * has one text of its own length. Everything else was made of these by the operations that change a
 * part of a value; such texts are kept here, and their number is their place.
 *
 * One set of texts for the process; not thread-safe.
 */
#ifndef TESTS_SIM_TEXTS_H
#define TESTS_SIM_TEXTS_H

#include "proto/base/buffer.h"
#include "tests/sim/checker.h"

/* Plain texts are filled with up to so many bytes. */
void texts_filling(uint32_t size_max);
/* Forget what was made. */
void texts_fini(void);

/* The bytes of v, which is present, to the end of `to`. */
void texts_print(struct checker_value v, struct buffer *to);
struct checker_value texts_parse(struct bytes text);

#endif
