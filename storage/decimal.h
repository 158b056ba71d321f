/* Decimal: sums of decimal texts, exact; no floats. Pure.
 *
 * A number is written [-]digits[.digits], with at least one digit on each side of a point. It has at
 * most 34 digits, not counted zeros in front of the first other digit of the whole part and behind
 * the last one of the fraction. The canonical text is the shortest: no such zeros, no point without
 * a fraction behind it, a single 0 before a bare fraction, and 0 has no sign. So equal numbers are
 * equal values.
 */
#ifndef STORAGE_DECIMAL_H
#define STORAGE_DECIMAL_H

#include "proto/base/bytes.h"

#define DECIMAL_DIGITS_MAX 34
#define DECIMAL_TEXT_MAX (DECIMAL_DIGITS_MAX + 3) /* sign, a zero before the point, the point */

/* Places around the point: one more in front, for a sum's carry. */
#define DECIMAL_WHOLE (DECIMAL_DIGITS_MAX + 1)
#define DECIMAL_PLACES (DECIMAL_WHOLE + DECIMAL_DIGITS_MAX)

struct decimal {
    bool negative;
    uint8_t digits[DECIMAL_PLACES]; /* 0..9; the point is behind the first DECIMAL_WHOLE */
};

/* False: no such number, or more digits than are allowed. */
bool decimal_parse(struct bytes text, struct decimal *ret);
/* False: the sum has more digits than are allowed; *ret is not to be used then. */
bool decimal_add(const struct decimal *a, const struct decimal *b, struct decimal *ret);
/* The canonical text; its size. */
size_t decimal_print(const struct decimal *d, char to[static DECIMAL_TEXT_MAX]);

#endif
