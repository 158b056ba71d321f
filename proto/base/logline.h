/* Logline: one event a line, with fields (logfmt), on stderr; the supervisor does the rest.
 *
 *   ts=2026-11-22T20:15:18.120Z level=warn proc=router node=r1 event=node_silent peer=n3
 *
 * Only shells (main, loop, doors) log; cores trace. Values are never logged. Thread-safe: a line is
 * one write, so lines of several threads and processes do not mix.
 */
#ifndef PROTO_BASE_LOGLINE_H
#define PROTO_BASE_LOGLINE_H

/* A longer line is cut to this many bytes, newline included, and ends in "...". */
#define LOGLINE_SIZE_MAX 1024

enum logline_level { LOGLINE_DEBUG, LOGLINE_INFO, LOGLINE_WARN, LOGLINE_ERROR };

/* proc and name stand in every line; borrowed for the life of the process. Below `least` nothing is
 * written. Call once, before any thread starts. */
void logline_init(const char *proc, const char *name, enum logline_level least);

/* Write one line: event is one word, format gives the remaining fields as "key=value key=value"
 * (put \"%s\" around values that may hold spaces), NULL for none. Control characters become '?'. */
void logline(enum logline_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
