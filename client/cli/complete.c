#include "client/cli/complete.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/command.h"

static void add(struct complete *c, const char *begin, size_t size)
{
    size_t typed = strlen(c->current);
    if (size < typed || memcmp(begin, c->current, typed) != 0 || c->count == COMPLETE_MAX ||
        c->used + size + 1 > sizeof c->storage)
        return;
    char *to = c->storage + c->used;
    memcpy(to, begin, size);
    to[size] = 0;
    c->used += size + 1;
    c->items[c->count++] = to;
}

static void add_choices(struct complete *c, const char *choices)
{
    for (;;) {
        size_t size = strcspn(choices, "|");
        add(c, choices, size);
        if (choices[size] == 0)
            return;
        choices += size + 1;
    }
}

static void add_commands(struct complete *c)
{
    for (size_t i = 0; i < commands_count; i++)
        add(c, commands[i].name, strlen(commands[i].name));
    add_choices(c, "quit");
}

static void add_flags(struct complete *c, unsigned groups)
{
    char name[FLAGS_LONG_SIZE];
    for (size_t i = 0; i < flags_rows_count; i++) {
        flags_long(&flags_rows[i], name);
        if ((flags_rows[i].group & groups) != 0)
            add(c, name, strlen(name));
    }
}

/* Files whose names need no quotes. */
static void add_files(struct complete *c)
{
    const char *slash = strrchr(c->current, '/');
    int folder_size = slash == NULL ? 0 : (int)(slash + 1 - c->current);
    char path[4096];
    snprintf(path, sizeof path, "%.*s", folder_size, c->current);
    DIR *folder = opendir(folder_size == 0 ? "." : path);
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        bool hidden = entry->d_name[0] == '.' && c->current[folder_size] != '.';
        if (hidden || strpbrk(entry->d_name, " \t\n'\"\\#") != NULL)
            continue;
        int size = snprintf(path, sizeof path, "%.*s%s%s", folder_size, c->current, entry->d_name,
                            entry->d_type == DT_DIR ? "/" : "");
        if (size > 0 && (size_t)size < sizeof path)
            add(c, path, (size_t)size);
    }
    if (folder != NULL)
        closedir(folder);
}

static void add_contexts(struct complete *c)
{
    struct contexts_entry entry;
    bool current;
    for (size_t i = 0; contexts_entry(i, &entry, &current); i++)
        add(c, entry.name, strlen(entry.name));
}

static const struct flag_row *flag_of(const char *word)
{
    char name[FLAGS_LONG_SIZE];
    for (size_t i = 0; i < flags_rows_count; i++) {
        const struct flag_row *row = &flags_rows[i];
        bool is_short = word[0] == '-' && word[1] == row->letter && word[1] != 0 && word[2] == 0;
        if (is_short || strcmp(word, flags_long(row, name)) == 0)
            return row;
    }
    return NULL;
}

/* What stands before the cursor. */
struct before {
    const struct command *command;
    int count;                      /* words behind the command */
    const struct flag_row *waiting; /* a flag whose value is the current word */
};

static struct before look_back(const struct words *words, int end)
{
    struct before b = {0};
    bool named = false;
    for (int i = 1; i < end; i++) {
        const char *word = words->items[i];
        const struct flag_row *row = word[0] == '-' ? flag_of(word) : NULL;
        if (b.waiting != NULL)
            b.waiting = NULL;
        else if (row != NULL)
            b.waiting = row->kind == FLAG_KIND_BOOL ? NULL : row;
        else if (word[0] == '-' && word[1] != 0)
            continue; /* --flag=value */
        else if (named)
            b.count++;
        else {
            b.command = command_find(word);
            named = true;
        }
    }
    if (named && b.command == NULL)
        b.count = -1;
    return b;
}

static void complete_argument(struct complete *c, const struct before *b)
{
    struct command_word word = {0};
    const char *at = b->command->words;
    for (int i = 0; i <= b->count; i++)
        if (!command_word_next(&at, &word))
            return;
    if (word.literal)
        add_choices(c, word.text);
    else if (strcmp(word.text, "COMMAND") == 0)
        add_commands(c);
    else if (strcmp(word.text, "NAME") == 0)
        add_contexts(c);
    else if (strcmp(word.text, "FILE") == 0)
        add_files(c);
}

static void set_hint(struct complete *c, const struct before *b)
{
    char name[FLAGS_LONG_SIZE];
    if (b->waiting != NULL)
        snprintf(c->hint, sizeof c->hint, "%s=%s  %s", flags_long(b->waiting, name),
                 b->waiting->value, b->waiting->sentence);
    else if (b->command != NULL)
        snprintf(c->hint, sizeof c->hint, "%s%s%s  %s", b->command->name,
                 b->command->words[0] != 0 ? " " : "", b->command->words, b->command->sentence);
}

void complete_words(const struct words *words, struct complete *ret)
{
    int end = words->count - (words->open ? 1 : 0);
    *ret = (struct complete){.current = words->open ? words->items[end] : ""};
    struct before b = look_back(words, end);
    set_hint(ret, &b);
    if (b.waiting != NULL) {
        if (strchr(b.waiting->value, '|') != NULL)
            add_choices(ret, b.waiting->value);
        else if (strcmp(b.waiting->value, "NAME") == 0)
            add_contexts(ret);
    } else if (ret->current[0] == '-') {
        add_flags(ret, FLAG_GLOBAL | (b.command == NULL ? 0 : b.command->groups));
    } else if (b.command != NULL) {
        complete_argument(ret, &b);
    } else if (b.count == 0) {
        add_commands(ret);
    }
}

size_t complete_common(const struct complete *complete)
{
    size_t size = complete->count == 0 ? 0 : strlen(complete->items[0]);
    for (size_t i = 1; i < complete->count; i++)
        for (size_t j = 0; j < size; j++)
            if (complete->items[i][j] != complete->items[0][j])
                size = j;
    return size;
}
