/* repl: commands read line by line; from a terminal with history and completion, else as a script.
 */
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/complete.h"
#include "client/cli/invoke.h"
#include "client/cli/style.h"

#define HISTORY_LINES  2000
#define PATH_SIZE_MAX  4096
#define WIDTH_DEFAULT  80
#define GREETING_WIDTH 72

struct repl {
    struct context *context;
    struct flags base; /* of the program's own command line */
    EditLine *edit;
    History *history;
    bool dropped; /* ^C: the line is not meant */
    bool over;
    char prompt[80];
};

/* ---- One line ---- */

static bool ends(const char *word)
{
    return strcmp(word, "quit") == 0 || strcmp(word, "exit") == 0;
}

/* The exit code of the line's command; 0 for an empty line. */
static int run_line(struct repl *r, const char *line, size_t size)
{
    struct words words;
    int code = 0;
    const char *wrong = words_split(&words, line, size);
    char **argv = words.items;
    int argc = words.count;
    /* Who pastes a line of a shell means it. */
    if (argc > 2 && strcmp(argv[1], "duet") == 0) {
        argv++;
        argc--;
    }
    if (wrong != NULL)
        code = command_fail(DUET_USAGE, "%s", wrong);
    else if (argc == 2 && ends(argv[1]))
        r->over = true;
    else if (argc > 1)
        code = invoke_words(r->context, &r->base, argc, argv);
    words_fini(&words);
    return code;
}

/* ---- A script ---- */

static int run_script(struct repl *r)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    uint64_t number = 0;
    int last_failure = 0;
    while (!r->over && (size = getline(&line, &capacity, stdin)) >= 0) {
        command_at_line(++number);
        int code = run_line(r, line, (size_t)size);
        if (code != 0)
            last_failure = code;
        if (ferror(stdout))
            break;
    }
    command_at_line(0);
    free(line);
    return last_failure;
}

/* ---- A terminal ---- */

static void history_path(char path[static PATH_SIZE_MAX])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    path[0] = 0;
    if (state != NULL && state[0] == '/') {
        snprintf(path, PATH_SIZE_MAX, "%s/duet", state);
        mkdir(path, 0700);
        snprintf(path, PATH_SIZE_MAX, "%s/duet/history", state);
    } else if (home != NULL && home[0] != 0) {
        snprintf(path, PATH_SIZE_MAX, "%s/.duet_history", home);
    }
}

static void history_begin(struct repl *r)
{
    HistEvent event;
    char path[PATH_SIZE_MAX];
    r->history = history_init();
    history(r->history, &event, H_SETSIZE, HISTORY_LINES);
    history(r->history, &event, H_SETUNIQUE, 1);
    history_path(path);
    if (path[0] != 0)
        history(r->history, &event, H_LOAD, path);
    el_set(r->edit, EL_HIST, history, r->history);
}

/* Values stand in it: nobody else may read it. */
static void history_save(struct repl *r)
{
    HistEvent event;
    char path[PATH_SIZE_MAX];
    history_path(path);
    FILE *to = path[0] == 0 ? NULL : fopen(path, "we");
    if (to == NULL)
        return;
    if (fchmod(fileno(to), 0600) == 0)
        history(r->history, &event, H_SAVE_FP, to);
    fclose(to);
}

static struct repl *repl_of(EditLine *edit)
{
    void *data = NULL;
    el_get(edit, EL_CLIENTDATA, &data);
    return data;
}

static char *prompt_of(EditLine *edit)
{
    return repl_of(edit)->prompt;
}

static int terminal_width(EditLine *edit)
{
    int width = 0;
    return el_get(edit, EL_GETTC, "co", &width, NULL) == 0 && width > 0 ? width : WIDTH_DEFAULT;
}

static void print_columns(const struct complete *c, int width)
{
    size_t widest = 0;
    for (size_t i = 0; i < c->count; i++)
        widest = strlen(c->items[i]) > widest ? strlen(c->items[i]) : widest;
    size_t columns = (size_t)width / (widest + 2);
    for (size_t i = 0; i < c->count; i++) {
        bool last = columns < 2 || i % columns == columns - 1 || i + 1 == c->count;
        printf("%-*s%s", last ? 0 : (int)widest + 2, c->items[i], last ? "\n" : "");
    }
}

/* Tab: complete as far as it is clear, then show what there is, or how the command is written. */
static unsigned char on_tab(EditLine *edit, int key)
{
    (void)key;
    const LineInfo *line = el_line(edit);
    struct words words;
    struct complete c;
    unsigned char done = CC_REFRESH;
    words_split(&words, line->buffer, (size_t)(line->cursor - line->buffer));
    complete_words(&words, &c);
    size_t typed = strlen(c.current), common = complete_common(&c);
    if (common > typed || c.count == 1) {
        char text[COMPLETE_SIZE_MAX];
        bool whole = c.count == 1 && c.items[0][common - 1] != '/';
        snprintf(text, sizeof text, "%.*s%s", (int)(common - typed), c.items[0] + typed,
                 whole ? " " : "");
        el_insertstr(edit, text);
    } else if (c.count > 1 || c.hint[0] != 0) {
        putchar('\n');
        if (c.count > 1)
            print_columns(&c, terminal_width(edit));
        else
            style_wrap(stdout, c.hint, terminal_width(edit), 2, 0);
        fflush(stdout);
        done = CC_REDISPLAY;
    } else {
        done = CC_REFRESH_BEEP;
    }
    words_fini(&words);
    return done;
}

/* ^C: drop the line. */
static unsigned char on_interrupt(EditLine *edit, int key)
{
    (void)key;
    repl_of(edit)->dropped = true;
    fputs("^C\n", stdout);
    fflush(stdout);
    return CC_NEWLINE;
}

static unsigned char on_suspend(EditLine *edit, int key)
{
    (void)key;
    el_set(edit, EL_PREP_TERM, 0);
    raise(SIGTSTP);
    el_set(edit, EL_PREP_TERM, 1);
    return CC_REDISPLAY;
}

static bool edit_begin(struct repl *r)
{
    setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1)
        setlocale(LC_CTYPE, "C.UTF-8");
    r->edit = el_init("duet", stdin, stdout, stderr);
    if (r->edit == NULL)
        return false;
    el_set(r->edit, EL_CLIENTDATA, r);
    el_set(r->edit, EL_EDITOR, "emacs");
    el_set(r->edit, EL_PROMPT, prompt_of);
    el_set(r->edit, EL_SIGNAL, 1);
    history_begin(r);
    /* The wide form: the other one leaks its copies of the words. */
    el_wset(r->edit, EL_ADDFN, L"duet-tab", L"complete, or tell how it is written", on_tab);
    el_wset(r->edit, EL_ADDFN, L"duet-interrupt", L"drop the line", on_interrupt);
    el_wset(r->edit, EL_ADDFN, L"duet-suspend", L"suspend", on_suspend);
    el_set(r->edit, EL_BIND, "^I", "duet-tab", NULL);
    el_set(r->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(r->edit, NULL); /* the user's own ~/.editrc */
    /* While a line is edited, ^C and ^Z are keys: a signal would tear the line. */
    el_set(r->edit, EL_SETTY, "-d", "-isig", NULL);
    el_set(r->edit, EL_BIND, "^C", "duet-interrupt", NULL);
    el_set(r->edit, EL_BIND, "^Z", "duet-suspend", NULL);
    return true;
}

/* The prompt names the context: who deletes should see where. */
static void set_prompt(struct repl *r)
{
    r->context->flags = r->base;
    if (invoke_routers(r->context) != 0)
        r->context->routers = "?";
    snprintf(r->prompt, sizeof r->prompt, "%s> ",
             r->context->name != NULL ? r->context->name : "duet");
}

static void greet(struct repl *r)
{
    struct duet_client_info info = {0};
    int code;
    set_prompt(r);
    printf("duet %s; help lists the commands,%sTab completes, quit leaves\n", duet_version_text(),
           terminal_width(r->edit) < GREETING_WIDTH ? "\n" : " ");
    r->context->quiet_connect = true;
    if (command_client(r->context, &code) != NULL)
        duet_client_info(r->context->client, &info);
    r->context->quiet_connect = false;
    if (info.connected)
        printf("connected to %s\n", info.router);
    else
        printf("no router answers at %s (yet)\n", r->context->routers);
}

static void read_lines(struct repl *r)
{
    HistEvent event;
    while (!r->over) {
        int size = 0;
        r->dropped = false;
        set_prompt(r);
        fflush(stdout);
        /* Before the prompt shows: who sees it may type, and every key counts. */
        el_set(r->edit, EL_PREP_TERM, 1);
        const char *line = el_gets(r->edit, &size);
        if (line == NULL || size <= 0) {
            putchar('\n');
            return;
        }
        if (r->dropped)
            continue;
        if (strspn(line, " \t\n") < (size_t)size)
            history(r->history, &event, H_ENTER, line);
        command_interrupted = 0;
        run_line(r, line, (size_t)size);
    }
}

static int run_terminal(struct repl *r)
{
    if (!edit_begin(r))
        return command_fail(DUET_NOMEMORY, "cannot use this terminal");
    command_catch_interrupt();
    greet(r);
    read_lines(r);
    signal(SIGINT, SIG_DFL);
    history_save(r);
    history_end(r->history);
    el_end(r->edit);
    return 0;
}

int repl_run(struct context *c)
{
    static bool running;
    if (running)
        return command_fail(DUET_USAGE, "this is it already; quit leaves");
    running = true;
    struct repl r = {.context = c, .base = c->flags, .prompt = "duet> "};
    /* Standard input is the script: no command may read it. */
    c->stdin_taken = isatty(STDIN_FILENO) == 0;
    int code = c->stdin_taken ? run_script(&r) : run_terminal(&r);
    running = false;
    return code;
}
