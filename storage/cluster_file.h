/* Cluster file: the first map of a cluster as ZPL text, made once and given to every node.
 *
 *   cluster
 *       id = "5f0c..."           32 hex digits
 *       partitions = "1024"
 *       copies = "2"
 *   node
 *       n1
 *           id = "91ab..."
 *           address = "tcp://127.0.0.1:7500"
 *           host = "n1"
 *           weight = "100"
 *
 * Every node places the partitions itself from this file and comes to the same result.
 */
#ifndef STORAGE_CLUSTER_FILE_H
#define STORAGE_CLUSTER_FILE_H

#include <stdio.h>

#include "proto/clustermap.h"
#include "storage/options.h"

/* Read path into an empty map and place its partitions. Errors name the file and the entry. */
enum status cluster_file_read(const char *path, struct clustermap *map, struct error *reterr);

/* Make a new cluster from --nodes, --hosts, --weights, --partitions, --copies with new random ids,
 * check that it can be placed, and print its file. */
enum status cluster_file_found(const struct storage_options *o, FILE *to, struct error *reterr);

#endif
