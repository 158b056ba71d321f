/* Reach: what must happen now and then in the random worlds, or they prove nothing. Counted in
 * every run, summed over a sweep; `sim --seeds` prints the sums and names what was never reached.
 */
#ifndef TESTS_SIM_REACH_H
#define TESTS_SIM_REACH_H

/* clang-format off */
#define REACH_MAP(X)                                                        \
    X(kills,             "processes of nodes killed")                       \
    X(stops, "of them, after their log was closed") \
    X(power_cuts,        "machines that lost power")                        \
    X(disk_deaths,       "nodes that ended by a disk error")                \
    X(disks_refused,     "nodes that ended: others know another disk of theirs") \
    X(boots_failed,      "starts that a disk error ended")                  \
    X(checkpoints,       "checkpoints that ended")                          \
    X(checkpoint_deaths, "power lost in the middle of a checkpoint")        \
    X(torn_groups,       "power lost while a group was being written")      \
    X(space_low,         "times that a disk had little space")              \
    X(router_deaths,     "routers killed")                                  \
    X(frames_lost,       "frames lost")                                     \
    X(frames_doubled,    "frames doubled")                                  \
    X(frames_late,       "frames that came very late")                      \
    X(connections_lost,  "connections lost")                                \
    X(duplicates,        "writes that came again to a node")                \
    X(truncated,         "entries cut off")                                 \
    X(gaps,              "APPENDs that did not fit")                        \
    X(retransmits,       "APPENDs sent again")                              \
    X(stale_messages,    "messages of another epoch or incarnation")        \
    X(fetches,           "cold keys fetched")                               \
    X(unavailable,       "operations refused: a member is missing")         \
    X(busy,              "operations refused: too many")                    \
    X(full,              "operations refused: no space")                    \
    X(repeats,           "attempts of routers after the first")             \
    X(elsewhere,         "reads sent to another copy")                      \
    X(held,              "operations held back by their order")             \
    X(late_results,      "results that came late or twice")                 \
    X(silences,          "times that a node fell silent for a router")      \
    X(failovers,         "sessions that changed their router")              \
    X(sent_again,        "operations that a session sent again")            \
    X(in_doubt,          "writes in doubt")                                 \
    X(settled,           "of them, settled by an outcome query: done")      \
    X(aborted,           "of them, settled by an outcome query: not done")  \
    X(conditions_failed, "conditions that did not hold")                    \
    X(leaps, "times that all wall clocks went hours ahead") \
    X(expires, "EXPIRE entries that collected records") \
    X(too_old, "operations refused as too old to know") \
    X(pages, "pages of walks over the store") \
    X(lapses,            "keys that went because of their expiry") \
    X(expiries,          "expiries that were read") \
    X(parts,             "appends, set ranges and decimal increments that were done") \
    X(not_numbers,       "increments of what is no number") \
    X(reads_any,         "reads of any copy that were answered") \
    X(reads_old,         "of them, with what was not the newest") \
    X(confirms,          "rounds of questions for reads") \
    X(confirms_unled,    "of them, by a replica") \
    X(wrong_clocks,      "worlds in which clocks run wrong") \
    X(takeovers,           "epochs proposed in place of a missing primary") \
    X(takeovers_unopened,  "epochs proposed after one that never opened") \
    X(left_out,            "epochs proposed without a missing member") \
    X(new_lives,           "epochs proposed after a restart") \
    X(collisions,          "proposals that found another in their place") \
    X(fenced,              "commits that waited for leases to run out") \
    X(additions,           "additions begun") \
    X(additions_dropped,   "additions given up") \
    X(grown,               "epochs proposed with a member more") \
    X(hand_backs,          "epochs proposed to give leadership back") \
    X(hand_overs,          "epochs proposed because the own disk stood still") \
    X(caught_up,           "learners that lacked no more than memory holds") \
    X(adrift,              "learners that lacked more") \
    X(snapshots,           "whole copies begun") \
    X(copies_ended,        "whole copies that took over") \
    X(copies_dropped,      "whole copies given up") \
    X(met,                 "disks that became known to enough others") \
    X(refused_heartbeats,  "heartbeats of another disk or an old life") \
    X(voters_joint,        "changes of the voters begun") \
    X(voters_changed,      "changes of the voters ended") \
    X(ranges,            "pages of a hash tag, or its count") \
    X(range_rest,        "of them, with more behind them") \
    X(batches,           "atomic batches that were done") \
    X(batches_failed,    "atomic batches that changed nothing") \
    X(batches_dropped,   "of both, answered again without their values")
/* clang-format on */

enum reach {
#define X(name, words) REACH_##name,
    REACH_MAP(X)
#undef X
        REACH_COUNT
};

#endif
