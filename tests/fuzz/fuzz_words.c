/* A line of the interactive mode or of a script: what is made of it before a command runs. It is split
 * into words, completed, and read for flags.
 *
 * Input: the line.
 */
#include <stdio.h>

#include "client/cli/command.h"
#include "client/cli/complete.h"
#include "tests/fuzz/fuzz.h"

static bool same(const struct words *a, const struct words *b)
{
    if (a->count != b->count)
        return false;
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

/* Every word in quotes, each quote inside of it behind a backslash between two quoted parts. */
static void quote(const struct words *words, struct buffer *to)
{
    ENSURE(buffer_append(to, bytes_text(" ")) == STATUS_OK);
    for (int i = 1; i < words->count; i++) {
        ENSURE(buffer_append(to, bytes_text(" '")) == STATUS_OK);
        for (const char *at = words->items[i]; *at != 0; at++)
            ENSURE(buffer_append(to, *at == '\'' ? bytes_text("'\\''") : bytes_of(at, 1)) ==
                   STATUS_OK);
        ENSURE(buffer_append(to, bytes_text("'")) == STATUS_OK);
    }
}

/* What was understood can be written down, and is understood again; a blank behind it ends the last
 * word and changes none. */
static void check_again(const struct words *words, struct bytes line)
{
    struct buffer text;
    struct words again;
    buffer_init(&text, 8 * line.size + 64);
    quote(words, &text);
    ENSURE(words_split(&again, (const char *)text.data, text.size) == NULL);
    ENSURE(same(words, &again));
    words_fini(&again);
    buffer_clear(&text);
    ENSURE(buffer_append(&text, line) == STATUS_OK);
    ENSURE(buffer_append(&text, bytes_text(" ")) == STATUS_OK);
    ENSURE(words_split(&again, (const char *)text.data, text.size) == NULL);
    ENSURE(same(words, &again) && !again.open);
    words_fini(&again);
    buffer_fini(&text);
}

/* What is offered goes on from what stands there. */
static void check_completion(const struct words *words)
{
    struct complete c;
    complete_words(words, &c);
    ENSURE(c.count <= COMPLETE_MAX && c.used <= COMPLETE_SIZE_MAX);
    ENSURE(memchr(c.hint, 0, sizeof c.hint) != NULL);
    size_t typed = strlen(c.current), common = complete_common(&c);
    ENSURE(c.count == 0 || common >= typed);
    for (size_t i = 0; i < c.count; i++)
        ENSURE(strncmp(c.items[i], c.current, typed) == 0 && strlen(c.items[i]) >= common);
}

/* Flags go, words stay in their order; what is wrong is said. */
static void check_flags(const struct words *words)
{
    struct flags flags;
    struct error error = {0};
    int left = 0, at = 1;
    char **rest = calloc((size_t)words->count + 1, sizeof *rest);
    ENSURE(rest != NULL);
    flags_default(&flags);
    enum status s = flags_parse(words->count, words->items, &flags, rest, &left, &error);
    ENSURE(s == STATUS_OK || (s == STATUS_USAGE && error.message[0] != 0));
    for (int i = 0; s == STATUS_OK && i < left; i++, at++) {
        while (at < words->count && words->items[at] != rest[i])
            at++;
        ENSURE(at < words->count);
    }
    if (s == STATUS_OK && left > 0) {
        const struct command *command = command_find(rest[0]);
        ENSURE(command == NULL || strcmp(command->name, rest[0]) == 0);
    }
    free(rest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct words words;
    uint8_t *line = fuzz_copy(bytes_of(data, size));
    const char *wrong = words_split(&words, (const char *)line, size);
    ENSURE(words.count >= 1 && (size_t)words.count <= size / 2 + 2);
    ENSURE(strcmp(words.items[0], "duet") == 0 && words.items[words.count] == NULL);
    if (wrong == NULL)
        check_again(&words, bytes_of(line, size));
    check_completion(&words);
    check_flags(&words);
    words_fini(&words);
    free(line);
    return 0;
}
