/* Intake: what clients say. Checks, slots, the small questions. Part of the coordinator (core.h).
 *
 * Each operation is judged on its own: one that is not valid, or for which there is no room, is
 * answered at once and disturbs none of the others in its message.
 */
#ifndef ROUTER_INTAKE_H
#define ROUTER_INTAKE_H

#include "router/core.h"

void intake_message(struct coordinator *c, uint64_t source, bool delimiter, struct bytes frame);

#endif
