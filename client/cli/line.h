/* Line: one record (key and value) as one line of text, as import reads it and export writes it.
 *
 * - TSV: key TAB value, both with escapes (text.h); the key in another format if so wished
 * - JSONL: an object with "key" (or "key64") and "value" (or "value64")
 *
 * What line_print() writes is what line_parse() reads.
 */
#ifndef CLIENT_CLI_LINE_H
#define CLIENT_CLI_LINE_H

#include "client/cli/text.h"

enum line_format { LINE_TSV, LINE_JSONL };

/* Replace key and value by what line (without its newline) says. key_format is that of TSV's keys;
 * TEXT_RAW means with escapes. NULL, or what is wrong, for people; then key and value hold
 * anything. */
const char *line_parse(enum line_format format, enum text_format key_format, struct bytes line,
                       struct buffer *key, struct buffer *value);

/* With its newline. */
void line_print(enum line_format format, enum text_format key_format, struct bytes key,
                struct bytes value, FILE *to);

#endif
