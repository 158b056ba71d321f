/* Overlay: committed keys that are not yet in the table. A hash by (slot, key); sorted on demand.
 *
 * An entry costs at most key + value + 64 bytes. Not thread-safe while it changes; a frozen one may
 * be read by several threads.
 */
#ifndef STORAGE_OVERLAY_H
#define STORAGE_OVERLAY_H

#include "storage/table.h"

struct overlay;

struct overlay *overlay_new(void);
void overlay_destroy(struct overlay **overlay_p);

/* Destroy *from_p and keep its memory for into's next puts, without a walk over its entries. What
 * cannot be used again is left to overlay_tidy(), which frees about a megabyte a call. */
void overlay_recycle(struct overlay **from_p, struct overlay *into);
void overlay_tidy(struct overlay *o);

/* Copy in; replaces what was there. STATUS_OK or STATUS_NOMEMORY. */
enum status overlay_put(struct overlay *o, uint32_t slot, uint64_t digest, struct bytes key,
                        const struct item *item);
/* False: not here. A deleted key is here, with present false. View until the next put. */
bool overlay_get(const struct overlay *o, uint32_t slot, uint64_t digest, struct bytes key,
                 struct item *ret);

/* All rows of one slot (or of all slots: UINT32_MAX), sorted in table order: an array of *ret_count
 * rows of views, to be freed with free(); NULL when empty or out of memory (*ret_count tells). */
struct table_row *overlay_sorted(const struct overlay *o, uint32_t slot, size_t *ret_count);

/* The slots that have rows, ascending: an array to be freed with free(), as above. With it a long walk
 * sorts one slot at a time. */
uint32_t *overlay_slots(const struct overlay *o, size_t *ret_count);

uint64_t overlay_count(const struct overlay *o);
uint64_t overlay_bytes(const struct overlay *o);

#endif
