/* Join: a process that is no node yet asks a node of the cluster to take it in (membership.h). */
#ifndef STORAGE_JOIN_H
#define STORAGE_JOIN_H

#include "proto/clustermap.h"
#include "storage/disk.h"
#include "storage/options.h"

/* Fill the empty map with that of the cluster that a node at o->join is in, with this node in it,
 * and save it in the directory, which has got its identity. Waits for answers for some seconds.
 * Errors say what is in the way; after any of them it may be tried again. */
enum status join_cluster(const struct storage_options *o, struct disk *disk,
                         struct clustermap *map, struct error *reterr);

/* A directory that belongs to a cluster already, whose map this is: is it the one at o->join? Nobody
 * there within a second: STATUS_OK. STATUS_WRONGCLUSTER: it is another one. */
enum status join_check(const struct storage_options *o, const struct clustermap *map,
                       struct error *reterr);

#endif
