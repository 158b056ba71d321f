#include "tests/sim/steps.h"

/* The real table, and a look at what goes to it: the position comes with the last transaction. */
struct spy {
    struct table table;
    struct table *real;
    uint32_t left; /* transactions */
    bool position_put, ended;
};

static struct table *real_of(struct table *t)
{
    return ((struct spy *)t)->real;
}

static enum status spy_reader_new(struct table *t, struct table_reader **ret)
{
    return real_of(t)->verbs->reader_new(real_of(t), ret);
}

static enum status spy_begin(struct table *t)
{
    return real_of(t)->verbs->begin(real_of(t));
}

static enum status spy_put(struct table *t, const struct table_row *row)
{
    return real_of(t)->verbs->put(real_of(t), row);
}

static enum status spy_blob_put(struct table *t, struct bytes name, struct bytes value)
{
    struct spy *s = (struct spy *)t;
    s->position_put |= bytes_equal(name, bytes_text("position"));
    return s->real->verbs->blob_put(s->real, name, value);
}

static enum status spy_commit(struct table *t)
{
    return real_of(t)->verbs->commit(real_of(t));
}

static void spy_abort(struct table *t)
{
    real_of(t)->verbs->abort(real_of(t));
}

static const struct table_verbs spy_verbs = {
    .reader_new = spy_reader_new,
    .begin = spy_begin,
    .put = spy_put,
    .blob_put = spy_blob_put,
    .commit = spy_commit,
    .abort = spy_abort,
};

static bool between(void *arg)
{
    struct spy *s = arg;
    s->ended = s->position_put;
    return --s->left > 0;
}

enum status steps_run(struct table *table, const struct checkpoint *c, uint32_t number,
                      bool *ret_ended)
{
    struct spy spy = {.table.verbs = &spy_verbs, .real = table, .left = number};
    enum status status = checkpoint_run(&spy.table, c, between, &spy);
    *ret_ended = spy.ended;
    bool stopped = spy.left == 0;
    return stopped ? STATUS_OK : status;
}
