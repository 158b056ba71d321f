/* Transcript: what a frame says, in one line, for traces. */
#ifndef TESTS_SIM_TRANSCRIPT_H
#define TESTS_SIM_TRANSCRIPT_H

#include "proto/base/bytes.h"

void transcript_frame(struct bytes frame, char *to, size_t size);

#endif
