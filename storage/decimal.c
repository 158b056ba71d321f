#include "storage/decimal.h"

#include "proto/base/ensure.h"

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* Where the digits that count begin and end; first == DECIMAL_WHOLE when there is no whole part. */
static void extent(const struct decimal *d, size_t *ret_first, size_t *ret_end)
{
    size_t first = 0, end = DECIMAL_PLACES;
    while (first < DECIMAL_WHOLE && d->digits[first] == 0)
        first++;
    while (end > DECIMAL_WHOLE && d->digits[end - 1] == 0)
        end--;
    *ret_first = first;
    *ret_end = end;
}

static bool allowed(const struct decimal *d)
{
    size_t first, end;
    extent(d, &first, &end);
    return end - first <= DECIMAL_DIGITS_MAX;
}

static bool is_zero(const struct decimal *d)
{
    size_t first, end;
    extent(d, &first, &end);
    return first == end;
}

/* The digits before the point, as many as there are places for; zeros in front do not count. */
static bool parse_whole(struct bytes text, struct decimal *to)
{
    size_t zeros = 0;
    if (text.size == 0)
        return false;
    while (zeros < text.size && text.data[zeros] == '0')
        zeros++;
    size_t size = text.size - zeros;
    for (size_t i = 0; i < size; i++) {
        if (!is_digit(text.data[zeros + i]) || size > DECIMAL_DIGITS_MAX)
            return false;
        to->digits[DECIMAL_WHOLE - size + i] = (uint8_t)(text.data[zeros + i] - '0');
    }
    return true;
}

static bool parse_fraction(struct bytes text, struct decimal *to)
{
    if (text.size == 0)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (!is_digit(text.data[i]) || (i >= DECIMAL_DIGITS_MAX && text.data[i] != '0'))
            return false;
        if (i < DECIMAL_DIGITS_MAX)
            to->digits[DECIMAL_WHOLE + i] = (uint8_t)(text.data[i] - '0');
    }
    return true;
}

bool decimal_parse(struct bytes text, struct decimal *ret)
{
    *ret = (struct decimal){.negative = text.size > 0 && text.data[0] == '-'};
    size_t begin = ret->negative ? 1 : 0, point = begin;
    while (point < text.size && text.data[point] != '.')
        point++;
    if (!parse_whole(bytes_of(text.data + begin, point - begin), ret))
        return false;
    if (point < text.size &&
        !parse_fraction(bytes_of(text.data + point + 1, text.size - point - 1), ret))
        return false;
    if (is_zero(ret))
        ret->negative = false;
    return allowed(ret);
}

static int compare_sizes(const struct decimal *a, const struct decimal *b)
{
    return memcmp(a->digits, b->digits, sizeof a->digits);
}

static void add_sizes(const struct decimal *a, const struct decimal *b, struct decimal *ret)
{
    unsigned carry = 0;
    for (size_t i = DECIMAL_PLACES; i-- > 0;) {
        unsigned sum = a->digits[i] + b->digits[i] + carry;
        ret->digits[i] = (uint8_t)(sum % 10);
        carry = sum / 10;
    }
    ENSURE(carry == 0); /* the first place is there for it */
}

static void subtract_sizes(const struct decimal *larger, const struct decimal *smaller,
                           struct decimal *ret)
{
    unsigned borrow = 0;
    for (size_t i = DECIMAL_PLACES; i-- > 0;) {
        unsigned take = smaller->digits[i] + borrow;
        borrow = larger->digits[i] < take ? 1 : 0;
        ret->digits[i] = (uint8_t)(larger->digits[i] + (borrow ? 10u : 0u) - take);
    }
    ENSURE(borrow == 0);
}

bool decimal_add(const struct decimal *a, const struct decimal *b, struct decimal *ret)
{
    struct decimal sum = {.negative = a->negative};
    if (a->negative == b->negative) {
        add_sizes(a, b, &sum);
    } else if (compare_sizes(a, b) >= 0) {
        subtract_sizes(a, b, &sum);
    } else {
        subtract_sizes(b, a, &sum);
        sum.negative = b->negative;
    }
    if (is_zero(&sum))
        sum.negative = false;
    *ret = sum;
    return allowed(ret);
}

size_t decimal_print(const struct decimal *d, char to[static DECIMAL_TEXT_MAX])
{
    size_t first, end, size = 0;
    extent(d, &first, &end);
    ENSURE(end - first <= DECIMAL_DIGITS_MAX);
    if (d->negative)
        to[size++] = '-';
    if (first == DECIMAL_WHOLE)
        to[size++] = '0';
    for (size_t i = first; i < end; i++) {
        if (i == DECIMAL_WHOLE)
            to[size++] = '.';
        to[size++] = (char)('0' + d->digits[i]);
    }
    return size;
}
