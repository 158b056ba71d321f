#include "client/watch.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "proto/base/ensure.h"

#define LINKS_MAX  64
#define NO_LINK    LINKS_MAX /* the wake-up and the timer */
#define EVENTS_MAX 32

bool watch_add(struct watch *w, uint32_t link, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = link};
    return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void watch_remove(struct watch *w, int fd)
{
    ENSURE(epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0);
}

bool watch_init(struct watch *w, int wake_fd)
{
    *w = (struct watch){.wake_fd = wake_fd};
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    return w->epoll_fd >= 0 && w->timer_fd >= 0 && watch_add(w, NO_LINK, wake_fd) &&
           watch_add(w, NO_LINK, w->timer_fd);
}

void watch_fini(struct watch *w)
{
    if (w->timer_fd >= 0)
        close(w->timer_fd);
    if (w->epoll_fd >= 0)
        close(w->epoll_fd);
    *w = (struct watch){-1, -1, -1};
}

static void drain(int fd)
{
    uint64_t ignored;
    if (read(fd, &ignored, sizeof ignored) < 0)
        ENSURE(errno == EAGAIN || errno == EINTR);
}

uint64_t watch_take(struct watch *w)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t ready = 0;
    int count = epoll_wait(w->epoll_fd, events, EVENTS_MAX, 0);
    ENSURE(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++)
        if (events[i].data.u32 < LINKS_MAX)
            ready |= (uint64_t)1 << events[i].data.u32;
    drain(w->wake_fd);
    drain(w->timer_fd);
    return ready;
}

void watch_arm(struct watch *w, int wait_ms)
{
    struct itimerspec at = {0}; /* all zero: never */
    if (wait_ms == 0)
        at.it_value.tv_nsec = 1;
    if (wait_ms > 0) {
        at.it_value.tv_sec = wait_ms / 1000;
        at.it_value.tv_nsec = (long)(wait_ms % 1000) * 1000000;
    }
    ENSURE(timerfd_settime(w->timer_fd, 0, &at, NULL) == 0);
}
