#include "client/cli/contexts.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/command.h"

#define PATH_SIZE_MAX 4096
#define LINES_MAX     512
#define LINE_SIZE_MAX (CONTEXTS_NAME_SIZE + CONTEXTS_ROUTERS_SIZE)

/* The file, line by line. */
struct file {
    char path[PATH_SIZE_MAX];
    size_t lines_count;
    char *lines[LINES_MAX]; /* without their newlines */
};

/* ---- Lines ---- */

/* Take " read=HOW" from the end of the value. False: HOW is none of those that are. */
static bool split_read(struct contexts_entry *entry)
{
    char *at = strstr(entry->routers, " read=");
    entry->read[0] = 0;
    if (at == NULL)
        return true;
    snprintf(entry->read, sizeof entry->read, "%s", at + strlen(" read="));
    while (at > entry->routers && at[-1] == ' ')
        at--;
    *at = 0;
    return at > entry->routers && flags_choice(CONTEXTS_READS, entry->read) >= 0;
}

/* Take "NAME = VALUE" apart. 1: done, 0: an empty line or a comment, -1: neither. */
static int split_line(const char *line, struct contexts_entry *ret)
{
    line += strspn(line, " \t");
    if (*line == 0 || *line == '#')
        return 0;
    size_t name_size = strcspn(line, " \t=");
    const char *value = line + name_size + strspn(line + name_size, " \t");
    if (name_size == 0 || name_size >= sizeof ret->name || *value != '=')
        return -1;
    value += 1 + strspn(value + 1, " \t");
    size_t value_size = strlen(value);
    while (value_size > 0 && isspace((unsigned char)value[value_size - 1]))
        value_size--;
    if (value_size == 0 || value_size >= sizeof ret->routers)
        return -1;
    snprintf(ret->name, sizeof ret->name, "%.*s", (int)name_size, line);
    snprintf(ret->routers, sizeof ret->routers, "%.*s", (int)value_size, value);
    return split_read(ret) ? 1 : -1;
}

/* The line of this name, lines_count when there is none. */
static size_t line_of(const struct file *file, const char *name, struct contexts_entry *ret)
{
    size_t i = 0;
    while (i < file->lines_count &&
           (split_line(file->lines[i], ret) != 1 || strcmp(ret->name, name) != 0))
        i++;
    return i;
}

static bool set_line(struct file *file, const char *name, const char *value)
{
    struct contexts_entry old;
    char text[LINE_SIZE_MAX];
    size_t at = line_of(file, name, &old);
    if (at == LINES_MAX)
        return false;
    snprintf(text, sizeof text, "%s = %s", name, value);
    char *line = strdup(text);
    if (line == NULL)
        return false;
    if (at == file->lines_count)
        file->lines_count++;
    else
        free(file->lines[at]);
    file->lines[at] = line;
    return true;
}

static void remove_line(struct file *file, size_t at)
{
    free(file->lines[at]);
    file->lines_count--;
    memmove(&file->lines[at], &file->lines[at + 1],
            (file->lines_count - at) * sizeof file->lines[0]);
}

/* ---- The file ---- */

/* The path; with make, its folders are made. */
static void find_path(char path[static PATH_SIZE_MAX], bool make)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool given = config != NULL && config[0] == '/';
    path[0] = 0;
    if (!given && (home == NULL || home[0] == 0))
        return;
    const char *const parts[] = {given ? config : home, given ? "" : "/.config", "/duet"};
    size_t used = 0;
    for (size_t i = 0; i < 3 && used < PATH_SIZE_MAX; i++) {
        used += (size_t)snprintf(path + used, PATH_SIZE_MAX - used, "%s", parts[i]);
        if (make)
            mkdir(path, 0700);
    }
    if (used < PATH_SIZE_MAX)
        snprintf(path + used, PATH_SIZE_MAX - used, "/contexts");
}

static void file_fini(struct file *file)
{
    for (size_t i = 0; i < file->lines_count; i++)
        free(file->lines[i]);
    file->lines_count = 0;
}

static enum status check_lines(const struct file *file, struct error *reterr)
{
    struct contexts_entry entry;
    for (size_t i = 0; i < file->lines_count; i++)
        if (split_line(file->lines[i], &entry) < 0)
            return error_set(reterr, STATUS_CONFIG, "%s: line %zu is not NAME = ROUTERS [read=HOW]",
                             file->path, i + 1);
    return STATUS_OK;
}

/* A file that is not there is empty. file is to be given to file_fini() in any case. */
static enum status file_read(struct file *file, struct error *reterr)
{
    *file = (struct file){0};
    find_path(file->path, false);
    FILE *from = file->path[0] == 0 ? NULL : fopen(file->path, "re");
    if (from == NULL && file->path[0] != 0 && errno != ENOENT && errno != ENOTDIR)
        return error_set(reterr, STATUS_CONFIG, "cannot read %s: %s", file->path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    while (from != NULL && file->lines_count < LINES_MAX && getline(&line, &capacity, from) > 0) {
        line[strcspn(line, "\n")] = 0;
        file->lines[file->lines_count++] = line;
        line = NULL;
        capacity = 0;
    }
    free(line);
    if (from != NULL)
        fclose(from);
    return check_lines(file, reterr);
}

/* Beside it, then in its place: nobody ever sees half of it. 0, or the exit code. */
static int file_write(struct file *file)
{
    char beside[PATH_SIZE_MAX + 8];
    find_path(file->path, true);
    if (file->path[0] == 0)
        return command_fail(DUET_CONFIG, "neither XDG_CONFIG_HOME nor HOME says where to keep it");
    snprintf(beside, sizeof beside, "%s.new", file->path);
    FILE *to = fopen(beside, "we");
    bool good = to != NULL;
    for (size_t i = 0; good && i < file->lines_count; i++)
        good = fprintf(to, "%s\n", file->lines[i]) > 0;
    if (to != NULL)
        good = fclose(to) == 0 && good;
    if (good && rename(beside, file->path) == 0)
        return 0;
    int code = command_fail(DUET_IO, "cannot write %s: %s", file->path, strerror(errno));
    unlink(beside);
    return code;
}

/* ---- What others ask ---- */

static enum status find(const struct file *file, const char *name, struct contexts_entry *ret,
                        struct error *reterr)
{
    if (name == NULL) {
        if (line_of(file, "current", ret) == file->lines_count)
            return STATUS_NOTFOUND;
        char current[CONTEXTS_NAME_SIZE];
        snprintf(current, sizeof current, "%.*s", (int)sizeof current - 1, ret->routers);
        return find(file, current, ret, reterr);
    }
    if (strcmp(name, "current") != 0 && line_of(file, name, ret) < file->lines_count)
        return STATUS_OK;
    return error_set(reterr, STATUS_CONFIG,
                     "there is no context '%s'; `duet context list` shows those that are", name);
}

enum status contexts_find(const char *name, struct contexts_entry *ret, struct error *reterr)
{
    struct file file;
    enum status s = file_read(&file, reterr);
    if (s == STATUS_OK)
        s = find(&file, name, ret, reterr);
    file_fini(&file);
    return s;
}

bool contexts_entry(size_t index, struct contexts_entry *ret, bool *ret_current)
{
    struct file file;
    struct contexts_entry current = {0};
    bool found = false;
    if (file_read(&file, NULL) == STATUS_OK) {
        bool any = find(&file, NULL, &current, NULL) == STATUS_OK;
        for (size_t i = 0; !found && i < file.lines_count; i++)
            if (split_line(file.lines[i], ret) == 1 && strcmp(ret->name, "current") != 0)
                found = index-- == 0;
        *ret_current = found && any && strcmp(ret->name, current.name) == 0;
    }
    file_fini(&file);
    return found;
}

/* ---- The command ---- */

static int list(const struct context *c)
{
    struct contexts_entry entry;
    bool current;
    json_t *array = json_array();
    for (size_t i = 0; contexts_entry(i, &entry, &current); i++) {
        if (command_json(c)) {
            json_t *object = json_object();
            json_object_set_new(object, "name", json_string(entry.name));
            json_object_set_new(object, "routers", json_string(entry.routers));
            json_object_set_new(object, "current", json_boolean(current));
            if (entry.read[0] != 0)
                json_object_set_new(object, "read", json_string(entry.read));
            json_array_append_new(array, object);
        } else if (c->output == OUTPUT_RAW) {
            puts(entry.name);
        } else {
            printf("%c %-16s %s%s%s\n", current ? '*' : ' ', entry.name, entry.routers,
                   entry.read[0] != 0 ? " read=" : "", entry.read);
        }
    }
    if (!command_json(c) && isatty(STDOUT_FILENO) && !contexts_entry(0, &entry, &current))
        puts("none yet; see duet help context");
    if (command_json(c))
        command_print_json_list(c, array);
    else
        json_decref(array);
    return 0;
}

static bool good_name(const char *name)
{
    size_t size = strlen(name);
    if (size == 0 || size >= CONTEXTS_NAME_SIZE || strcmp(name, "current") == 0 ||
        strcmp(name, CONTEXTS_DEFAULT) == 0)
        return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)name[i]) && strchr("-_.", name[i]) == NULL)
            return false;
    return true;
}

static int add(struct file *file, const char *name, const char *routers, const char *read)
{
    char value[CONTEXTS_ROUTERS_SIZE];
    struct duet_error error;
    struct duet_options *options = duet_options_new();
    enum duet_code code =
        options == NULL ? DUET_NOMEMORY : duet_options_set(options, "routers", routers, &error);
    duet_options_free(&options);
    if (code != DUET_OK)
        return command_fail(code, "%s", error.message);
    if (!good_name(name))
        return command_fail(DUET_USAGE,
                            "'%s' cannot be a context's name: letters, digits, '-', '_' and '.', "
                            "and neither 'current' nor '" CONTEXTS_DEFAULT "'",
                            name);
    int size = snprintf(value, sizeof value, "%s%s%s", routers, read[0] != 0 ? " read=" : "", read);
    if (size >= (int)sizeof value || !set_line(file, name, value))
        return command_fail(DUET_USAGE, "too many or too long addresses");
    return file_write(file);
}

static int use(struct file *file, const char *name)
{
    struct contexts_entry entry;
    struct error error;
    if (strcmp(name, CONTEXTS_DEFAULT) == 0) {
        size_t at = line_of(file, "current", &entry);
        if (at < file->lines_count)
            remove_line(file, at);
    } else if (find(file, name, &entry, &error) != STATUS_OK) {
        return command_fail(DUET_USAGE, "%s", error.message);
    } else if (!set_line(file, "current", name)) {
        return command_fail(DUET_NOMEMORY, "out of memory");
    }
    return file_write(file);
}

static int forget(struct file *file, const char *name)
{
    struct contexts_entry entry;
    struct error error;
    if (find(file, name, &entry, &error) != STATUS_OK)
        return command_fail(DUET_USAGE, "%s", error.message);
    remove_line(file, line_of(file, name, &entry));
    size_t current = line_of(file, "current", &entry);
    if (current < file->lines_count && strcmp(entry.routers, name) == 0)
        remove_line(file, current);
    return file_write(file);
}

static int edit(const struct context *c, struct file *file)
{
    const char *action = c->words[0];
    bool adds = strcmp(action, "add") == 0;
    if (c->words_count != (adds ? 3 : 2))
        return command_fail(DUET_USAGE, "write: duet context %s NAME%s", action,
                            adds ? " ROUTERS" : "");
    if (adds)
        return add(file, c->words[1], c->words[2], c->flags.read);
    return strcmp(action, "use") == 0 ? use(file, c->words[1]) : forget(file, c->words[1]);
}

int contexts_run(struct context *c)
{
    struct file file;
    struct error error;
    bool lists = c->words_count == 0 || strcmp(c->words[0], "list") == 0;
    int code;
    if (file_read(&file, &error) != STATUS_OK)
        code = command_fail(DUET_CONFIG, "%s", error.message);
    else if (!lists)
        code = edit(c, &file);
    else if (c->words_count > 1)
        code = command_fail(DUET_USAGE, "write: duet context list");
    else
        code = list(c);
    file_fini(&file);
    return code;
}
