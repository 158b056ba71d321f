#include "proto/base/ensure.h"

#include <stdio.h>
#include <stdlib.h>

void ensure_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "level=fatal event=ensure_failed at=%s:%d condition=\"%s\"\n", file, line,
            condition);
    abort();
}
