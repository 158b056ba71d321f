/* Sync: the thread that makes groups durable while the loop collects the next one. */
#ifndef STORAGE_SYNC_H
#define STORAGE_SYNC_H

#include "storage/log.h"

struct sync;

/* event_fd (eventfd) becomes readable when a group is durable. */
struct sync *sync_new(struct log *log, int event_fd);
void sync_destroy(struct sync **sync_p);
/* Hand a group over. ENSUREs that none is under way. */
void sync_submit(struct sync *s, struct log_group *g);
/* STATUS_OK: *ret is the group that is durable now (give it to log_group_done()); STATUS_NOTFOUND:
 * still at work, or idle; else the error that must end the process. */
enum status sync_ended(struct sync *s, struct log_group **ret);
/* Since when the group under way is being written (clock_now_ms), 0 when idle: a stalled disk. */
uint64_t sync_busy_since_ms(const struct sync *s);

#endif
