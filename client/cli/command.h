/* Command: what the commands of `duet` share, and their table.
 *
 * A command gets its words, does its work, and returns the exit code: 0 ok, 1 not found, 2 usage,
 * 3 cannot connect, 4 timeout or in doubt, 5 server error, 6 condition not met. Data goes to
 * stdout, everything else to stderr.
 */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

#include "client/cli/flags.h"
#include "client/cli/text.h"
#include "client/duet.h"

enum command_output {
    OUTPUT_AUTO,  /* for people and for scripts: values as they are, a newline on a terminal */
    OUTPUT_TABLE, /* for people */
    OUTPUT_JSON,
    OUTPUT_JSONL,
    OUTPUT_RAW,   /* exact bytes, nothing else */
    OUTPUT_HEX,
};

struct context {
    struct flags flags;
    enum command_output output;
    enum text_format key_format;
    const char *routers;        /* flag, environment or default */
    struct duet_client *client; /* opened when first needed */
    int words_count;            /* behind the command's name */
    char **words;
};

struct command {
    const char *name, *words, *sentence;
    int words_min, words_max; /* words_max < 0: any number */
    unsigned groups;          /* of flags that it takes, beside the global ones */
    int (*run)(struct context *c);
    const char *help; /* more lines for `duet help NAME`; may be "" */
};

#define COMMANDS_COUNT 25
extern const struct command commands[COMMANDS_COUNT];
const struct command *command_find(const char *name);

/* The client, connected; NULL: why was printed, *ret_exit says how to end. */
struct duet_client *command_client(struct context *c, int *ret_exit);

/* Print "duet: ..." and return the exit code of this outcome. */
int command_fail(enum duet_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int command_exit_code(enum duet_code code, uint32_t flags);

/* The bytes of a key word, in the key format; into out (cleared before). False: printed why. */
bool command_key(const struct context *c, const char *word, struct buffer *out);
/* The bytes of a value word; "-" is what stands on stdin. */
bool command_value(const char *word, struct buffer *out);

static inline struct duet_slice command_slice(const struct buffer *b)
{
    return duet_bytes(b->data, b->size);
}

static inline struct bytes command_bytes(struct duet_slice s)
{
    return bytes_of(s.data, s.size);
}

static inline bool command_json(const struct context *c)
{
    return c->output == OUTPUT_JSON || c->output == OUTPUT_JSONL;
}

/* Print and free. */
void command_print_json(const struct context *c, json_t *object);
/* The version as "E.S", in text of at least 48 bytes. */
const char *command_version(struct duet_version v, char *text);

/* One file each. */
int keys_get(struct context *c);
int keys_put(struct context *c);
int keys_del(struct context *c);
int keys_incr(struct context *c);
int keys_cas(struct context *c);
int keys_add(struct context *c);
int keys_append(struct context *c);
int keys_setrange(struct context *c);
int keys_getdel(struct context *c);
int keys_getset(struct context *c);
int keys_expire(struct context *c);
int keys_persist(struct context *c);
int keys_ttl(struct context *c);
int keys_mget(struct context *c);
int keys_mput(struct context *c);
int ranges_scan(struct context *c);
int ranges_count(struct context *c);
int ranges_clear(struct context *c);
int batch_atomic(struct context *c);
int transfer_import(struct context *c);
int transfer_export(struct context *c);
int cluster_where(struct context *c);
int cluster_status(struct context *c);
int cluster_ping(struct context *c);
int bench_run(struct context *c);

#endif
