/* Text: bytes as people and programs write them.
 *
 * - hex and base64
 * - TSV: a line is key TAB value; in both, TAB, newline and backslash are written \t \n \\
 * - JSON: strings where the bytes are UTF-8, else base64 under the name with "64" behind it
 */
#ifndef CLIENT_CLI_TEXT_H
#define CLIENT_CLI_TEXT_H

#include <jansson.h>
#include <stdio.h>

#include "proto/base/buffer.h"

enum text_format { TEXT_RAW, TEXT_HEX, TEXT_BASE64 };

/* Append what text stands for. STATUS_OK; STATUS_USAGE: it is not in this format; STATUS_TOOBIG. */
enum status text_decode(enum text_format format, struct bytes text, struct buffer *out);
void text_print(enum text_format format, struct bytes data, FILE *to);

/* Append data with its escapes undone. STATUS_USAGE: a backslash before anything else. */
enum status text_unescape(struct bytes data, struct buffer *out);
void text_print_escaped(struct bytes data, FILE *to);
size_t text_escaped_size(struct bytes data);

/* Put data into object as "name", or as "name64". */
void text_json_set(json_t *object, const char *name, struct bytes data);
/* Append object's "name" or "name64". STATUS_NOTFOUND: there is neither; STATUS_USAGE: not text. */
enum status text_json_get(const json_t *object, const char *name, struct buffer *out);

/* Print object on one line (or over several) and free it. */
void text_json_print(json_t *object, bool compact, FILE *to);

#endif
