/* Watch: one descriptor for all that a client without a thread of its own waits for: its links, a
 * wake-up, and a time. It is an epoll instance, so that any loop of the host can watch it.
 *
 * Used by the thread that dispatches, except the wake-up, which is the client's own eventfd.
 */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
    int epoll_fd; /* readable: something is ready, or the time has come */
    int timer_fd;
    int wake_fd; /* borrowed */
};

/* False: no descriptors are left; watch_fini() is to be called all the same. */
bool watch_init(struct watch *w, int wake_fd);
void watch_fini(struct watch *w);

/* Watch the descriptor of link number `link`, below 64. False: the kernel has no room for it. */
bool watch_add(struct watch *w, uint32_t link, int fd);
/* Before the link is destroyed. */
void watch_remove(struct watch *w, int fd);

/* What is ready now: bit n for link n. Takes the wake-up and the time that has come. */
uint64_t watch_take(struct watch *w);

/* Become readable after so many ms: 0 at once, -1 never. Replaces what was set before. */
void watch_arm(struct watch *w, int wait_ms);

#endif
