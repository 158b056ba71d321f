/* One register of the registry: CASPaxos with three acceptors and two proposers that restart.
 *
 * A ballot is counter * 2 + proposer + 1, so all that a round says and hears is kept under its
 * ballot. What was sent stays deliverable for ever: loss, delay, reordering and repetition in
 * one. Any majority will do. A value is a version and the ballot that made it; the first one is
 * version 0. */
#define ROUNDS 2 /* of each proposer */
#define BALLOTS (2 * ROUNDS)
#define VALUE(version, ballot) ((version) * 8 + (ballot))
#define VERSION(value) ((value) / 8)
#define BIT(n) (1 << (n))
#define MAJORITY(set) ((set) == 3 || (set) == 5 || (set) == 6 || (set) == 7)

/* Acceptors, on the disk before anything is answered. */
byte promised[3];
byte accepted_ballot[3];
byte accepted_value[3];

/* Proposers: the counter is durable, and names the round under way. A restart or a round given up
 * is the beginning of the next one. */
byte counter[2];
#define CURRENT(p) (2 * counter[p] - 1 + (p))

/* Sent, by ballot. */
byte promises[BALLOTS + 1]; /* set of acceptors that have answered the prepare; 0 once used */
byte newest_ballot[BALLOTS + 1]; /* the highest accepted one that those answers told of */
byte newest_value[BALLOTS + 1];
bool accepting[BALLOTS + 1]; /* the accept is on its way, with this value, made of that one */
byte proposed[BALLOTS + 1];
byte made_of[BALLOTS + 1];
byte accepts[BALLOTS + 1];
#if defined(BUG_40)
bool again[2];
#endif

/* What the checker remembers. */
byte value_of[BALLOTS + 1]; /* the committed value of each version; 255: none yet */
byte highest;               /* highest committed version, and the ballot that committed it */
byte highest_ballot;

/* I16: one value per version, and what is committed is not lost to a higher ballot. */
inline commit(value, ballot)
{
    if
    :: value_of[VERSION(value)] != 255 && value_of[VERSION(value)] != value ->
        printf("I16: version %d has two values\n", VERSION(value));
        assert(false)
    :: ballot > highest_ballot && VERSION(value) < highest ->
        printf("I16: version %d is lost\n", highest);
        assert(false)
    :: else
    fi;
    value_of[VERSION(value)] = value;
    if
    :: ballot > highest_ballot && VERSION(value) >= highest ->
        highest = VERSION(value);
        highest_ballot = ballot
    :: else
    fi
}

/* What nobody can use any more is forgotten: one state instead of many. */
inline forget_promises(b)
{
    promises[b] = 0;
    newest_ballot[b] = 0;
    newest_value[b] = 0
}
inline forget_accept(b)
{
    if
    :: promised[0] > b && promised[1] > b && promised[2] > b ->
        accepts[b] = 0;
        proposed[b] = 0;
        made_of[b] = 0
    :: else
    fi
}

#define START(p)                                                                               \
    ::d_step                                                                                   \
    {                                                                                          \
        counter[p] < ROUNDS ->                                                                 \
        if                                                                                     \
        :: counter[p] > 0 -> forget_promises(CURRENT(p))                                       \
        :: else                                                                                \
        fi;                                                                                    \
        counter[p]++;                                                                          \
        printf("p%d prepares ballot %d\n", p, CURRENT(p))                                      \
    }

/* Answers are gathered as they are given: which of them arrive is the choice of which are given,
 * and a proposer goes on with any majority. The answer to a proposer that has left the round is
 * lost. */
#define OWNER(b) (((b) - 1) % 2)
#define PREPARED(a, b)                                                                         \
    ::d_step                                                                                   \
    {                                                                                          \
        CURRENT(OWNER(b)) >= b && counter[OWNER(b)] > 0 && promised[a] < b ->                  \
        promised[a] = b;                                                                       \
        printf("a%d promises ballot %d, has (%d: version %d)\n", a, b, accepted_ballot[a],     \
               VERSION(accepted_value[a]));                                                    \
        if                                                                                     \
        :: CURRENT(OWNER(b)) == b && !accepting[b] ->                                          \
            promises[b] = promises[b] | BIT(a);                                                \
            newest_value[b] = (accepted_ballot[a] > newest_ballot[b]                           \
                -> accepted_value[a] : newest_value[b]);                                       \
            newest_ballot[b] = (accepted_ballot[a] > newest_ballot[b]                          \
                -> accepted_ballot[a] : newest_ballot[b])                                      \
        :: else                                                                                \
        fi;                                                                                    \
        forget_accept(1);                                                                      \
        forget_accept(2);                                                                      \
        forget_accept(3);                                                                      \
        forget_accept(4)                                                                       \
    }

#if defined(BUG_16)
#define ENOUGH(set) ((set) != 0)
#else
#define ENOUGH(set) MAJORITY(set)
#endif

/* Mutant 40 needs them for the second use of the ballot. */
#if defined(BUG_40)
#define USED(b) skip
#else
#define USED(b) forget_promises(b)
#endif

/* The swap adds one to the version; a read proposes what it found. */
#define PROPOSE(p, value)                                                                      \
    ::d_step                                                                                   \
    {                                                                                          \
        counter[p] > 0 && !accepting[CURRENT(p)] && ENOUGH(promises[CURRENT(p)]) ->            \
        proposed[CURRENT(p)] = value;                                                          \
        made_of[CURRENT(p)] = newest_value[CURRENT(p)];                                        \
        accepting[CURRENT(p)] = true;                                                          \
        printf("p%d proposes version %d in ballot %d\n", p, VERSION(proposed[CURRENT(p)]),     \
               CURRENT(p));                                                                    \
        USED(CURRENT(p))                                                                       \
    }

#define ACCEPT(a, b)                                                                           \
    ::d_step                                                                                   \
    {                                                                                          \
        accepting[b] && promised[a] <= b && accepted_ballot[a] < b ->                          \
        promised[a] = b;                                                                       \
        accepted_ballot[a] = b;                                                                \
        accepted_value[a] = proposed[b];                                                       \
        accepts[b] = accepts[b] | BIT(a);                                                      \
        printf("a%d accepts version %d in ballot %d\n", a, VERSION(proposed[b]), b);           \
        if                                                                                     \
        :: MAJORITY(accepts[b]) ->                                                             \
            commit(made_of[b], b);                                                             \
            commit(proposed[b], b)                                                             \
        :: else                                                                                \
        fi                                                                                     \
    }

/* The same ballot once more, while answers to its first use are still on their way. */
#define REUSE(p)                                                                               \
    ::d_step                                                                                   \
    {                                                                                          \
        counter[p] > 0 && accepting[CURRENT(p)] && !again[p] ->                                \
        again[p] = true;                                                                       \
        accepting[CURRENT(p)] = false;                                                         \
        accepts[CURRENT(p)] = 0;                                                               \
        printf("p%d restarts and uses ballot %d again\n", p, CURRENT(p))                       \
    }
#define ACCEPTOR_RESTARTS(a)                                                                   \
    ::d_step                                                                                   \
    {                                                                                          \
        promised[a] > accepted_ballot[a] ->                                                    \
        promised[a] = accepted_ballot[a];                                                      \
        printf("a%d restarts without its promise\n", a)                                        \
    }

#define BALLOT(b)                                                                              \
    PREPARED(0, b) PREPARED(1, b) PREPARED(2, b) ACCEPT(0, b) ACCEPT(1, b) ACCEPT(2, b)
#define PROPOSER(p)                                                                            \
    START(p)                                                                                   \
    PROPOSE(p, newest_value[CURRENT(p)])                                                        \
    PROPOSE(p, VALUE(VERSION(newest_value[CURRENT(p)]) + 1, CURRENT(p)))                        

active proctype registry()
{
    d_step {
        for (highest : 1 .. BALLOTS) {
            value_of[highest] = 255
        };
        highest = 0
    };
    do
    PROPOSER(0)
    PROPOSER(1)
    BALLOT(1)
    BALLOT(2)
    BALLOT(3)
    BALLOT(4)
#if defined(BUG_40)
    REUSE(0)
    REUSE(1)
#endif
#if defined(BUG_41)
    ACCEPTOR_RESTARTS(0)
    ACCEPTOR_RESTARTS(1)
    ACCEPTOR_RESTARTS(2)
#endif
    od
}
