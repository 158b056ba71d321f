/* Epochs: one partition, three nodes, one register, leases.
 *
 * The rules are those of replication.md: who may swap the register (F2), promise, opening and
 * fence (L3), appending and acknowledging (W3, W4), commit (W5), the return of a primary (F6),
 * growing (G1). One process takes all steps, each of them atomic; whatever may happen at a moment
 * is one option of its loop. A node that is dead or cut off is one whose steps are not taken; a
 * crash and the start after it are one step. README.md says what is left out and why that is
 * sound. */
#if defined(START_LEFT_OUT)
#define EPOCHS 4 /* the third and the fourth are the two changes */
#else
#define EPOCHS 3 /* the first, and two changes */
#endif
#define ENTRIES 2 /* positions of the log */

#define IN(n, set) (((set) >> (n)) & 1)
#define BIT(n) (1 << (n))

/* An entry is named by the epoch that wrote it, and its position. Mutant 43 writes a second one of
 * the same name: OTHER tells the two apart where a checker looks, NAME is what a node sees. */
#define OTHER 8
#define NAME(entry) ((entry) & 7)

/* --- The register: one configuration per epoch ----------------------------------------------- */

byte reg = 1;
byte base;           /* in-sync set of the last opened epoch */
byte isr[EPOCHS + 1];
byte primary[EPOCHS + 1];
byte opened;         /* set of epochs */

/* --- Nodes ----------------------------------------------------------------------------------- */

/* On the disk. A promise is a record in the log, so its sync makes all before it durable. */
byte promised[3] = 1;
byte last[3];
byte durable[3];
typedef entries {
    byte at[ENTRIES + 1];
};
entries log[3];

/* In memory. */
byte stale;       /* set of nodes: primary of an epoch that an earlier incarnation promised */

/* The primary's addition, of which there is never more than one in the model's epochs. */
byte pending[3]; /* node + 1 */
byte marked[3];  /* the primary's last entry at the moment of marking */

/* --- On the way: once sent, it may arrive as long as somebody would still take it ------------- */

entries wire[EPOCHS + 1]; /* all that the primary of this epoch has ever appended */
byte wire_last[EPOCHS + 1];
typedef positions {
    byte by[3];
};
positions acked[EPOCHS + 1]; /* verified and durable in the epoch: the highest ACK */
byte grow[EPOCHS + 1];       /* the primary's swap that adds this node (+ 1) */

/* --- Leases ---------------------------------------------------------------------------------- */

/* While giver and holder have promised the same epoch, a lease can be renewed for ever, and is
 * held here. Once the giver has moved on it runs out at any moment, or never. ended[holder] is
 * the set of givers whose lease has run out so, or was lost with the holder's memory. */
byte ended[3];

/* A node that becomes a member cannot know which leases the others gave before: it waits the
 * longest lease from that moment on. owes[n] is the set of holders for which that still matters. */
byte owes[3];
#if defined(BUG_13)
byte forgot; /* set of nodes that do not know any more which leases they have given */
#endif

/* --- What the checkers remember -------------------------------------------------------------- */

byte acted[EPOCHS + 1]; /* the epoch's primary: 0 not yet, 1 this incarnation, 2 an earlier one */
byte committed[ENTRIES + 1];
byte committed_count;
byte commits_in; /* set of epochs */

/* Scratch, zero between steps. */
byte i;
byte e;

/* --- What may be asked of a state ------------------------------------------------------------ */

#define PRIMARY(n) (primary[promised[n]] == n)
#if defined(BUG_43)
#define LEADS(n) PRIMARY(n)
#else
#define LEADS(n) (PRIMARY(n) && !IN(n, stale))
#endif
#define OPENED(n) IN(promised[n], opened)
#define MEMBER(m, n) IN(m, isr[promised[n]])

/* h counts a lease from g. */
#define LEASE(g, h) (MEMBER(g, h) && MEMBER(h, h) && !IN(g, ended[h]))

/* R1 */
#define LEASE_OR_NONE(g, h) ((g) == (h) || !MEMBER(g, h) || LEASE(g, h))
#define AUTHORITY(h)                                                                           \
    (OPENED(h) && MEMBER(h, h) && LEASE_OR_NONE(0, h) && LEASE_OR_NONE(1, h) &&                \
     LEASE_OR_NONE(2, h))

/* L3: primary n need not wait for h: a member, fenced, or its lease has run out. */
#define LEASE_BEFORE(n, h) (promised[h] < promised[n] && LEASE(n, h))
#define WAITS(n, h) (LEASE_BEFORE(n, h) || IN(h, owes[n]))
#if defined(BUG_11)
#define FENCED_ONE(n, h) true
#elif defined(BUG_13)
#define FENCED_ONE(n, h) (MEMBER(h, n) || IN(n, forgot) || !WAITS(n, h))
#elif defined(BUG_52)
#define FENCED_ONE(n, h) (MEMBER(h, n) || !IN(h, isr[promised[n] - 1]) || !WAITS(n, h))
#else
#define FENCED_ONE(n, h) (MEMBER(h, n) || !WAITS(n, h))
#endif
#define FENCED(n) (FENCED_ONE(n, 0) && FENCED_ONE(n, 1) && FENCED_ONE(n, 2))

/* W5: primary n may commit position s as far as m is concerned. */
#define REQUIRED(n, m) (MEMBER(m, n) || pending[n] == (m) + 1)
#define HAS(n, m, s) (!REQUIRED(n, m) || (m) == (n) || acked[promised[n]].by[m] >= (s))
#if defined(BUG_8)
#define ALL_HAVE(n, s)                                                                         \
    ((HAS(n, 0, s) && HAS(n, 1, s)) || (HAS(n, 0, s) && HAS(n, 2, s)) ||                       \
     (HAS(n, 1, s) && HAS(n, 2, s)))
#else
#define ALL_HAVE(n, s) (HAS(n, 0, s) && HAS(n, 1, s) && HAS(n, 2, s))
#endif
#define MAY_COMMIT(n, s)                                                                       \
    (LEADS(n) && OPENED(n) && durable[n] >= (s) && ALL_HAVE(n, s) && FENCED(n))

/* F2: who may swap, and to what. When the register is opened, base is its in-sync set. The
 * proposer is any node of the new set that was in base; whether it hears of its success makes no
 * difference. */
#if defined(BUG_20)
#define MAY_SWAP(set) true
#elif defined(BUG_50)
#define MAY_SWAP(set) (((set) & ~isr[reg]) == 0)
#else
#define MAY_SWAP(set) (((set) & ~base) == 0)
#endif

#define PROMISED(m) (!IN(m, isr[reg]) || promised[m] == reg)

/* --- Steps ----------------------------------------------------------------------------------- */

/* I1, wherever a primary acts. */
inline act(n)
{
#if !defined(WITHOUT_I1)
    if
    :: acted[promised[n]] == 2 ->
        printf("I1: two incarnations act as the primary of epoch %d\n", promised[n]);
        assert(false)
    :: else
    fi;
#endif
    acted[promised[n]] = 1
}

inline cut(n, k)
{
    for (i : 1 .. ENTRIES) {
        log[n].at[i] = (i > k -> 0 : log[n].at[i])
    }
    last[n] = k;
    durable[n] = (durable[n] > k -> k : durable[n])
}

/* Leases from members that have left n's epoch: n has none, and cannot get one any more. */
inline leases_from_now(n)
{
    ended[n] = 0;
    for (i : 0 .. 2) {
        ended[n] = ended[n] |
            (MEMBER(n, n) && MEMBER(i, n) && promised[i] > promised[n] -> BIT(i) : 0)
    }
}

inline joins(n, a, b)
{
#if !defined(BUG_NEWCOMER)
    owes[n] = owes[n] | (LEASE_BEFORE(a, b) -> BIT(b) : 0) | (LEASE_BEFORE(b, a) -> BIT(a) : 0)
#else
    skip
#endif
}

inline promise(n, a, b)
{
    if
    :: PRIMARY(n) ->
        pending[n] = 0;
        marked[n] = 0;
        acted[promised[n]] = 0;
        grow[promised[n]] = 0
    :: else
    fi;
    stale = stale & ~BIT(n);
    durable[n] = last[n];
    promised[n]++;
    leases_from_now(n);
    owes[a] = owes[a] & ~BIT(n);
    owes[b] = owes[b] & ~BIT(n);
    if
    :: MEMBER(n, n) && !IN(n, isr[promised[n] - 1]) && promised[n] < EPOCHS -> joins(n, a, b)
    :: else
    fi;
    if
    :: PRIMARY(n) ->
        for (i : 1 .. ENTRIES) {
            wire[promised[n]].at[i] = log[n].at[i]
        }
        wire_last[promised[n]] = last[n]
    :: else
    fi
}

/* Once every node has left an epoch nothing of it can arrive: one state instead of many. */
inline clear_left()
{
    e = 1;
    do
    :: promised[0] > e && promised[1] > e && promised[2] > e ->
        for (i : 1 .. ENTRIES) {
            wire[e].at[i] = 0
        }
        wire_last[e] = 0;
        acked[e].by[0] = 0;
        acked[e].by[1] = 0;
        acked[e].by[2] = 0;
        isr[e] = 0;
        primary[e] = 0;
        e++
    :: else -> break
    od;
    /* Only for those who have not heard of it. */
    for (i : 1 .. EPOCHS) {
        commits_in = (promised[0] >= i && promised[1] >= i && promised[2] >= i
            -> commits_in & ~BIT(i) : commits_in)
    };
    i = 0;
    e = 0
}

/* The next entry from the primary, taken, synced and acknowledged. */
inline receive(n)
{
    e = promised[n];
    i = acked[e].by[n] + 1;
    if
    :: last[n] >= i && NAME(log[n].at[i]) != NAME(wire[e].at[i]) ->
        cut(n, acked[e].by[n])
    :: else
    fi;
    acked[e].by[n]++;
    if
    :: last[n] < acked[e].by[n] ->
        last[n]++;
        durable[n] = last[n];
        log[n].at[last[n]] = wire[e].at[last[n]]
    :: else
    fi
}

inline append(n)
{
    e = promised[n];
    last[n]++;
    log[n].at[last[n]] = (IN(n, stale) -> e + OTHER : e);
    wire[e].at[last[n]] = log[n].at[last[n]];
    wire_last[e] = last[n];
    e = 0
}

/* The node is back with the first k entries; what lay past `durable` may or may not be there. */
inline restart(n, k)
{
    cut(n, k);
    i = 0;
    durable[n] = k;
    pending[n] = 0;
    marked[n] = 0;
    stale = stale | BIT(n);
    acted[promised[n]] = (acted[promised[n]] != 0 -> 2 : 0);
#if defined(BUG_43)
    /* Acknowledgements name the incarnation that they are meant for. */
    acked[promised[n]].by[0] = 0;
    acked[promised[n]].by[1] = 0;
    acked[promised[n]].by[2] = 0
#endif
}

/* --- The options ----------------------------------------------------------------------------- */

#define SWAP(set, p)                                                                           \
    ::d_step                                                                                   \
    {                                                                                          \
        reg < EPOCHS && MAY_SWAP(set) ->                                                       \
        reg++;                                                                                 \
        isr[reg] = set;                                                                        \
        primary[reg] = p;                                                                      \
        printf("swap: epoch %d, primary n%d; in the in-sync set: n0 %d, n1 %d, n2 %d\n", reg, p,  \
               IN(0, set), IN(1, set), IN(2, set));                                            \
    }

#define PROMISE(n, a, b)                                                                         \
    ::d_step                                                                                   \
    {                                                                                          \
        promised[n] < reg ->                                                                   \
        promise(n, a, b);                                                                         \
        printf("n%d promises epoch %d\n", n, promised[n]);                                     \
        clear_left()                                                                           \
    }

#define OPEN(n)                                                                                \
    ::d_step                                                                                   \
    {                                                                                          \
        LEADS(n) && promised[n] == reg && !OPENED(n) && PROMISED(0) && PROMISED(1) &&          \
            PROMISED(2) ->                                                                     \
        act(n);                                                                                \
        opened = opened | BIT(reg);                                                            \
        base = isr[reg];                                                                       \
        printf("n%d opens epoch %d\n", n, reg)                                                 \
    }

#define APPEND(n)                                                                              \
    ::d_step                                                                                   \
    {                                                                                          \
        LEADS(n) && last[n] < ENTRIES ->                                                       \
        act(n);                                                                                \
        append(n);                                                                             \
        printf("n%d appends (%d,%d)\n", n, promised[n], last[n])                               \
    }

#define SYNC(n)                                                                                \
    ::d_step                                                                                   \
    {                                                                                          \
        durable[n] < last[n] ->                                                                \
        durable[n] = last[n];                                                                  \
        printf("n%d syncs up to %d\n", n, durable[n])                                          \
    }

#define RECEIVE(n)                                                                             \
    ::d_step                                                                                   \
    {                                                                                          \
        !PRIMARY(n) && acked[promised[n]].by[n] < wire_last[promised[n]] -> \
        receive(n);                                                                            \
        printf("n%d takes and acknowledges (%d,%d) from the primary of epoch %d\n", n,         \
               NAME(log[n].at[acked[e].by[n]]), acked[e].by[n], e); \
        i = 0;                                                                                 \
        e = 0                     \
    }

#define COMMIT(n, s)                                                                           \
    ::d_step                                                                                   \
    {                                                                                          \
        MAY_COMMIT(n, s) && committed_count == (s) - 1 ->                                      \
        act(n);                                                                                \
        committed_count = s;                                                                   \
        committed[s] = log[n].at[s];                                                           \
        commits_in = commits_in | BIT(promised[n]);                                            \
        printf("n%d commits (%d,%d) in epoch %d\n", n, NAME(committed[s]), s, promised[n]);    \
        clear_left()                                                                           \
    }                                                                                          \
    ::d_step                                                                                   \
    {                                                                                          \
        MAY_COMMIT(n, s) && committed_count >= (s) && committed[s] != log[n].at[s] ->          \
        printf("I5: n%d commits another entry at %d\n", n, s);                                 \
        assert(false)                                                                          \
    }

/* Only a primary that waits for it takes notice of the end of a lease. */
#define NOTICED(g, h, other)                                                                   \
    ((LEADS(g) && !MEMBER(h, g)) || (LEADS(other) && !MEMBER(h, other) && IN(h, owes[other])))
#define RUN_OUT(h, g, other)                                                                   \
    ::d_step                                                                                   \
    {                                                                                          \
        LEASE_BEFORE(g, h) && NOTICED(g, h, other) ->                                          \
        ended[h] = ended[h] | BIT(g);                                                          \
        owes[other] = owes[other] & ~BIT(h);                                                   \
        printf("n%d's lease from n%d runs out\n", h, g)                                        \
    }

#define RESTART(n, k)                                                                          \
    ::d_step                                                                                   \
    {                                                                                          \
        PRIMARY(n) && durable[n] <= (k) && (k) <= last[n] ->                                    \
        restart(n, k);                                                                         \
        printf("n%d crashes and is back with %d entries\n", n, k)                              \
    }

#if defined(BUG_9)
#define COMPLETE(n) true
#else
#define COMPLETE(n) (acked[promised[n]].by[pending[n] - 1] >= marked[n])
#endif
#if defined(BUG_10)
#define IN_DOUBT(n) false
#else
#define IN_DOUBT(n) (grow[promised[n]] != 0)
#endif

#define MARK(n, x)                                                                             \
    ::d_step                                                                                   \
    {                                                                                          \
        LEADS(n) && OPENED(n) && promised[n] < EPOCHS && pending[n] == 0 && !MEMBER(x, n) ->   \
        pending[n] = (x) + 1;                                                                  \
        marked[n] = last[n];                                                                   \
        printf("n%d marks n%d, which must have %d entries\n", n, x, marked[n])                 \
    }

#define GROW(n)                                                                                \
    ::d_step                                                                                   \
    {                                                                                          \
        LEADS(n) && pending[n] != 0 && !IN_DOUBT(n) ->                                         \
        pending[n] = 0;                                                                        \
        marked[n] = 0;                                                                         \
        printf("n%d gives its addition up\n", n)                                               \
    }                                                                                          \
    ::d_step                                                                                   \
    {                                                                                          \
        LEADS(n) && pending[n] != 0 && grow[promised[n]] == 0 && COMPLETE(n) ->                \
        act(n);                                                                                \
        grow[promised[n]] = pending[n];                                                        \
        marked[n] = 0;                                                                         \
        printf("n%d sends the swap that adds n%d\n", n, pending[n] - 1)                        \
    }

/* It lands, whatever became of its sender meanwhile. */
#define LAND                                                                                   \
    ::d_step                                                                                   \
    {                                                                                          \
        reg < EPOCHS && IN(reg, opened) && grow[reg] != 0 ->                                   \
        reg++;                                                                                 \
        isr[reg] = isr[reg - 1] | BIT(grow[reg - 1] - 1);                                      \
        primary[reg] = primary[reg - 1];                                                       \
        printf("the swap lands: epoch %d, now with n%d\n", reg, grow[reg - 1] - 1)             \
    }

#define NODE(n, a, b)                                                                          \
    PROMISE(n, a, b)                                                                           \
    OPEN(n)                                                                                    \
    APPEND(n)                                                                                  \
    SYNC(n)                                                                                    \
    RECEIVE(n)                                                                                 \
    COMMIT(n, 1)                                                                               \
    COMMIT(n, 2)                                                                               \
    RUN_OUT(n, a, b)                                                                           \
    RUN_OUT(n, b, a)                                                                           \
    RESTART(n, 0)                                                                              \
    RESTART(n, 1)                                                                              \
    RESTART(n, 2)                                                                              \
    MARK(n, a)                                                                                 \
    MARK(n, b)                                                                                 \
    GROW(n)                                                                                    \
    SWAP(BIT(n), n)                                                                            \
    SWAP(BIT(n) | BIT(a), n)                                                                   \
    SWAP(BIT(n) | BIT(b), n)                                                                   \
    SWAP(BIT(n) | BIT(a) | BIT(b), n)

/* --- Invariants of every state --------------------------------------------------------------- */

#define HOLDS(m, s)                                                                            \
    ((s) > committed_count || (durable[m] >= (s) && log[m].at[s] == committed[s]))
#define I3_OF(m) (!IN(m, base) || (HOLDS(m, 1) && HOLDS(m, 2)))
#define I3 (I3_OF(0) && I3_OF(1) && I3_OF(2))

#define LEFT_OUT(h, f) (promised[h] < (f) && IN(f, commits_in) && !IN(h, isr[f]))
#define I9_OF(h) (!AUTHORITY(h) || !(LEFT_OUT(h, 2) || LEFT_OUT(h, 3) || LEFT_OUT(h, EPOCHS)))
#define I9 (I9_OF(0) && I9_OF(1) && I9_OF(2))

active proctype watch()
{
    if
    :: d_step { !I3 -> printf("I3: a member of an opened epoch lacks a committed entry\n") };
        assert(false)
    :: d_step { !I9 -> printf("I9: a node may read that is left out of an epoch that commits\n") };
        assert(false)
    fi
}

active proctype cluster()
{
    d_step {
        primary[1] = 0;
        opened = BIT(1)
    };
    if
#if defined(START_LEFT_OUT)
    /* n0 went on alone and has opened epoch 2; n1 has not heard of it and holds n0's lease. */
    :: d_step {
            isr[1] = BIT(0) | BIT(1);
            reg = 2;
            isr[2] = BIT(0);
            primary[2] = 0;
            opened = opened | BIT(2);
            promised[0] = 2;
            promised[2] = 2
        }
#else
    :: isr[1] = BIT(0) | BIT(1) | BIT(2)
    :: isr[1] = BIT(0) | BIT(1)
#endif
    fi;
    base = isr[reg];
    do
    NODE(0, 1, 2)
    NODE(1, 0, 2)
    NODE(2, 0, 1)
    LAND
#if defined(BUG_13)
    :: d_step { !PRIMARY(1) && !IN(1, forgot) -> forgot = forgot | BIT(1); printf("n1 restarts\n") }
    :: d_step { !PRIMARY(2) && !IN(2, forgot) -> forgot = forgot | BIT(2); printf("n2 restarts\n") }
#endif
    od
}
