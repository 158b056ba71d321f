/* Notify: what a supervisor is told about this process, in systemd's words (sd_notify(3)).
 *
 * - notify_starting()  not serving yet; the start may take longer
 * - notify_ready()     it serves from now on
 * - notify_turn()      its loop has made a full turn: feeds the watchdog, when that is due
 * - notify_status()    one line for people, shown by `systemctl status`
 * - notify_stopping()  it is on its way down
 *
 * Without a supervisor that asked (NOTIFY_SOCKET, WATCHDOG_USEC) each does nothing, and one that is
 * gone is nothing to fail over; one that does not read is waited for once its socket is full. Only
 * shells notify, as they log; from one thread.
 */
#ifndef PROTO_BASE_NOTIFY_H
#define PROTO_BASE_NOTIFY_H

#include <stdint.h>

#define NOTIFY_SIZE_MAX 512 /* a longer status is cut */

/* How much longer the supervisor waits after each notify_starting(). */
#define NOTIFY_EXTEND_MS 60000u

/* Read what the supervisor wants. Call once, first. */
void notify_init(void);

/* What the start is at, like "recovering: 40 %". Say it at least every NOTIFY_EXTEND_MS. */
void notify_starting(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Requests are answered from now on. */
void notify_ready(const char *format, ...) __attribute__((format(printf, 1, 2)));

void notify_status(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* now_ms: clock_now_ms(). Costs a comparison unless a quarter of the watchdog's time is over. */
void notify_turn(uint64_t now_ms);

void notify_stopping(void);

#endif
