#include "client/cli/zipf.h"

#include <math.h>

#define TERMS_EXACT 10000

/* The sum of i^-theta for i from 1 to n: exactly for the first terms, where it is steep; the rest
 * by the integral, with its first two corrections (Euler and Maclaurin). */
static double zeta_of(uint64_t n, double theta)
{
    uint64_t exact = n < TERMS_EXACT ? n : TERMS_EXACT;
    double sum = 0;
    for (uint64_t i = 1; i <= exact; i++)
        sum += pow((double)i, -theta);
    if (exact == n)
        return sum;
    double a = (double)exact, b = (double)n;
    sum += (pow(b, 1 - theta) - pow(a, 1 - theta)) / (1 - theta);
    sum += (pow(b, -theta) - pow(a, -theta)) / 2;
    return sum - theta * (pow(b, -theta - 1) - pow(a, -theta - 1)) / 12;
}

void zipf_init(struct zipf *z, uint64_t count, double theta)
{
    double zeta_two = zeta_of(2, theta);
    *z = (struct zipf){.count = count, .theta = theta, .zeta = zeta_of(count, theta)};
    z->alpha = 1 / (1 - theta);
    z->second = zeta_two;
    z->eta = (1 - pow(2 / (double)count, 1 - theta)) / (1 - zeta_two / z->zeta);
}

uint64_t zipf_rank(const struct zipf *z, double even)
{
    double at = even * z->zeta;
    if (at < 1 || z->count == 1)
        return 0;
    if (at < z->second)
        return 1;
    uint64_t rank = (uint64_t)((double)z->count * pow(z->eta * even - z->eta + 1, z->alpha));
    return rank < z->count ? rank : z->count - 1;
}
