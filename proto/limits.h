/* Limits: all of them. Beyond each stands a clear error. */
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

#define KEY_SIZE_MAX 480                    /* bytes; LMDB takes 511, the table's prefix needs 12 */
#define VALUE_SIZE_MAX_DEFAULT (1u << 20)   /* bytes, option value_size_max */
#define VALUE_SIZE_MAX (16u << 20)          /* bytes, ceiling of that option */
#define MESSAGE_OPERATIONS_MAX 1024         /* operations in one message */
#define SCAN_PAGE_KEYS_MAX 10000            /* keys in one page of a scan */
#define SCAN_COUNT_MAX 100000               /* keys that one page without keys counts */
#define SCAN_BOUND_SIZE_MAX (KEY_SIZE_MAX + 1) /* bytes: right behind the largest key */
#define ATOMIC_KEYS_MAX 255                 /* keys in one atomic batch */
#define ATOMIC_BYTES_MAX MESSAGE_BYTES_MAX  /* bytes in it, and in the values of its answer */
#define MESSAGE_BYTES_MAX (4u << 20)        /* bytes in one message of many operations */
#define FRAME_BYTES_MAX (VALUE_SIZE_MAX + (1u << 20)) /* bytes on any socket */
#define CLIENT_WINDOW_MAX 512               /* unanswered writes of one client id */
#define ROUTER_SLOTS_DEFAULT 65536          /* operations in flight in one router */
#define NODES_MAX 1024
#define PARTITIONS_DEFAULT 1024
#define PARTITIONS_MAX 16384                /* a power of two */
#define REGISTERS_MAX (1 + NODES_MAX + PARTITIONS_MAX)
#define REGISTRY_STEPS_MAX 2048             /* steps of registers in one message */
#define REGISTRY_VALUE_SIZE_MAX 1024        /* bytes in a register of the registry */
#define COPIES_DEFAULT 2
#define COPIES_MAX 5
#define VOTERS_MAX 5                        /* nodes that keep the registers: 1, 3 or 5 */
#define NAME_SIZE_MAX 64                    /* of a node, host or rack */
#define ADDRESS_SIZE_MAX 128

#endif
