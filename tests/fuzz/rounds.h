/* Rounds: decode, encode, decode. What must hold for every message and every part, whoever sent it:
 *
 * (1) What decodes can be encoded, and that decodes to what encodes to the very same bytes.
 * (2) What decodes stays within the arena's cap; it does not need the frame any more.
 * (3) Of what does not decode nothing is written.
 */
#ifndef TESTS_FUZZ_ROUNDS_H
#define TESTS_FUZZ_ROUNDS_H

#include "proto/base/bytes.h"

/* One frame, and the parts inside it as far as they decode. True when it is a whole message. */
bool rounds_frame(struct bytes frame);

#endif
