/* Listing: keys and what they should hold, as text.
 *
 * A line for each key: KEY TAB EPOCH TAB SEQ TAB VALUE, key and value in hex; VALUE "-": the key is
 * absent; EPOCH 0: any version will do.
 */
#ifndef TESTS_PROCESS_LISTING_H
#define TESTS_PROCESS_LISTING_H

#include "proto/message.h"

struct listing_entry {
    struct bytes key, value;
    bool present;
    struct version version;
};

struct listing {
    struct listing_entry *entries;
    size_t count, capacity;
};

/* False: not readable, empty, or a line that is none. */
bool listing_read(struct listing *l, const char *path);
void listing_fini(struct listing *l);

#endif
