/* Scheduling: how this process shares the processors with the others. */
#ifndef PROTO_BASE_SCHEDULING_H
#define PROTO_BASE_SCHEDULING_H

/* Let threads of this process that wake up wait for their turn rather than take the processor from
 * whoever has it (SCHED_BATCH, see sched(7)). On an idle processor nothing changes; on busy ones
 * every turn of a loop finds more to do, and there are half as many switches. Before any thread
 * starts: threads inherit it. A kernel that refuses leaves all as it was. */
void scheduling_batch(void);

#endif
