/* Command: the one table of commands, and what they share.
 *
 * From the table come dispatch, `--help`, the manual page, completion and the interactive mode. To
 * add a command: a row in command.c, its function declared below, its flags in flags.h.
 *
 * A command gets its words, does its work, and returns the exit code: 0 ok, 1 not found, 2 usage,
 * 3 cannot connect, 4 timeout or in doubt, 5 server error, 6 condition not met. Data goes to
 * stdout, everything else to stderr.
 */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

#include <signal.h>

#include "client/cli/contexts.h"
#include "client/cli/flags.h"
#include "client/cli/text.h"
#include "client/duet.h"

enum command_output { /* in the order of the flag's choices */
    OUTPUT_AUTO,      /* for people and for scripts: values as they are, a newline on a terminal */
    OUTPUT_TABLE,     /* for people */
    OUTPUT_JSON,
    OUTPUT_JSONL,
    OUTPUT_RAW, /* exact bytes, nothing else */
    OUTPUT_HEX,
};

/* What -o may be for a command: bits 1 << OUTPUT_... */
#define OUTPUTS_TEXT   (1u << OUTPUT_AUTO | 1u << OUTPUT_TABLE)
#define OUTPUTS_REPORT (OUTPUTS_TEXT | 1u << OUTPUT_JSON | 1u << OUTPUT_JSONL)
#define OUTPUTS_ALL    (OUTPUTS_REPORT | 1u << OUTPUT_RAW | 1u << OUTPUT_HEX)

struct context {
    struct flags flags;
    enum command_output output;
    enum text_format key_format;
    const struct command *command; /* that runs */
    const char *routers;           /* flags, environment, the context in use, or the default */
    const char *read;              /* how keys are read: flags, environment, context; "": as usual */
    const char *source;            /* of routers, for people; NULL: name says it, or the line */
    struct contexts_entry *entry;  /* where routers lie that come from a context */
    const char *name;              /* of the context, or NULL */
    struct duet_client *client;    /* opened when first needed */
    char *client_for;              /* the settings that it was opened with */
    bool quiet_connect;            /* to fail to connect, soon and without words, is no accident */
    bool stdin_taken;              /* by the script of commands */
    int words_count;               /* behind the command's name */
    char **words;
};

enum command_section { SECTION_KEYS, SECTION_MANY, SECTION_CLUSTER, SECTION_SELF, SECTIONS_COUNT };
extern const char *const command_sections[SECTIONS_COUNT]; /* their titles */

struct command {
    enum command_section section;
    /* words: what follows the name. [optional], "..." for more of them; in small letters, with '|'
     * between them: the very words that may stand there. */
    const char *name, *words, *sentence;
    unsigned groups;  /* of flags that it takes, beside the global ones */
    unsigned outputs; /* OUTPUTS_...: what -o may be */
    int (*run)(struct context *c);
    const char *help; /* more lines for `duet help NAME`; may be "" */
};

extern const struct command commands[]; /* sections in their order */
extern const size_t commands_count;
const struct command *command_find(const char *name);

/* One word of a command's pattern. */
struct command_word {
    char text[48]; /* "KEY", "list|use" */
    bool optional, repeated;
    bool literal; /* text lists the very words that may stand here */
};
/* Read the next word of a pattern and move on. False: there is none. */
bool command_word_next(const char **pattern, struct command_word *ret);
/* How many words a command takes; *ret_max is -1 for any number. */
void command_words_range(const struct command *command, int *ret_min, int *ret_max);

/* The client, connected; NULL: why was printed, *ret_exit says how to end. */
struct duet_client *command_client(struct context *c, int *ret_exit);
void command_disconnect(struct context *c);
/* command_fail() about the routers' addresses: it tells where they come from. */
int command_fail_routers(const struct context *c, enum duet_code code, const char *message);

/* Print "duet: ..." and return the exit code of this outcome. */
int command_fail(enum duet_code code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int command_exit_code(enum duet_code code, uint32_t flags);
/* From now on command_fail() names this line of a script; 0: none. */
void command_at_line(uint64_t number);

/* Not 0: the user does not want to wait any longer (^C). Long work looks at it and ends early. */
extern volatile sig_atomic_t command_interrupted;
/* From now on ^C sets it; a second one, before it was cleared, ends the program. */
void command_catch_interrupt(void);

/* The bytes of a key word, in the key format; into out (cleared before). False: printed why. */
bool command_key(const struct context *c, const char *word, struct buffer *out);
/* The bytes of a value word; "-" is what stands on stdin. */
bool command_value(const struct context *c, const char *word, struct buffer *out);
/* May this command read stdin? False: printed why not. */
bool command_stdin(const struct context *c);

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

/* Print and free: an object; and an array, of which jsonl prints the elements, each on its line. */
void command_print_json(const struct context *c, json_t *object);
void command_print_json_list(const struct context *c, json_t *array);
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
int cluster_explain(struct context *c);
int screen_run(struct context *c);
int check_run(struct context *c);
int ping_run(struct context *c);
int bench_run(struct context *c);
int help_run(struct context *c);
int help_version(struct context *c);
int bash_run(struct context *c);
int manual_run(struct context *c);
int admin_run(struct context *c);
int contexts_run(struct context *c);
int repl_run(struct context *c);

#endif
