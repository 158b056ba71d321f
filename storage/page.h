/* Page: keys and values of one partition, in the table's order, as the answer to a SCAN or a RANGE.
 *
 *   SCAN   what comes after the cursor, up to the end of the partition
 *   RANGE  the keys of one hash tag within bounds. They share a digest, so that they lie together; keys
 *          of another tag with the same digest are passed over.
 *
 * A page is what is committed at the moment; whoever asks for one waits for what is dirty first. Rows are
 * read from the table in the loop, however cold they are; a page is bounded in rows and in bytes looked
 * at, those of values that do not travel included. Pure.
 */
#ifndef STORAGE_PAGE_H
#define STORAGE_PAGE_H

#include "storage/replica.h"

/* Make op's page. STATUS_OK: it is packed in c->scratch, or *ret_wait is an entry after whose commit it
 * is to be tried again (keys past their expiry go first, rule R7). STATUS_MALFORMED, STATUS_ASKPRIMARY,
 * STATUS_UNAVAILABLE, STATUS_BUSY: the answer. The node may have failed. */
enum status page_make(struct core *c, struct replica *r, const struct operation *op,
                      struct pending **ret_wait);

#endif
