/* tests/unit/storage/spool_fixture.h - a spool on a shard that is ticked by hand, in a directory
 * of its own.
 *
 * One thread, no workers: jobs run inside the ring and complete in a later tick. A crash is a
 * copy of the directory taken while the spool runs: what recovery makes of the copy is what a
 * kill would have left. */
#ifndef KILAT_TESTS_SPOOL_FIXTURE_H
#define KILAT_TESTS_SPOOL_FIXTURE_H

#include "storage/spool_private.h"

#define WORLD_MESSAGES_MAX 4096

/* One unfinished message, as an owner of a spool knows it. */
struct world_message {
    uint64_t id;
    struct spool_location location;
    char envelope[64];
    uint32_t head_bytes;
    uint64_t body_bytes;
    uint32_t arrival_s;
    uint8_t flags;
    bool held, chunked;
    uint32_t unit_count;
    struct spool_unit units[128];
    char reason[600];
};

struct world {
    struct shard shard;
    struct timer guard;
    bool late;
    char dir[256];
    struct spool_config config;
    struct spool_recovery *recovery;
    struct spool *spool;
    struct spool_report report;
    uint64_t finished; /* messages that ended, in the last recovery and since */
    char error[600];
    /* The world is the owner: what it was told by the last recovery, in order of id, and what was posted and told
     * since. */
    struct world_message messages[WORLD_MESSAGES_MAX];
    uint32_t message_count;
    char texts[3][64][SPOOL_IMAGE_TEXT_MAX + 1]; /* of the image, by kind and number */
    bool keeps; /* set before opening: checkpoints are written, from `messages` */
    bool restored;
    int restore_result;
    uint32_t image_next; /* of the checkpoint being filled */
    bool image_open;
    bool written; /* a checkpoint asked for has ended */
    int written_result;
    bool stopped;
    struct list_node postings; /* all that were made and not destroyed */
};

/* An empty directory below the working directory's file system, gone at exit. */
struct world *world_create(void);
/* Likewise below `parent`. */
struct world *world_create_in(const char *parent);
/* Opens and starts world->dir; 0 or the error, with its sentence in world->error. */
int world_start(struct world *world);
/* The same, and brings back what earlier lives left; also the error of that. */
int world_recover(struct world *world);
/* world_recover() that must succeed. */
void world_open(struct world *world);
/* Writes a checkpoint and waits for its end. */
int world_checkpoint(struct world *world);
/* Stops in order and destroys the spool. */
void world_close(struct world *world);
/* Another world over a copy of this one's directory as it is now. */
struct world *world_crash(const struct world *world);
/* Its directory becomes a copy of the other's; its spool, if it runs, is closed before. */
void world_reset(struct world *world, const struct world *from);
void world_destroy(struct world *world);

void world_tick(struct world *world);
/* Ticks until `*flag`; fails the test after a minute. */
void world_until(struct world *world, const bool *flag);

const struct world_message *world_find(const struct world *world, uint64_t id);
/* spool_note() and what the world makes of it. */
int world_tell(struct world *world, const struct spool_note *note);
/* All units are done. */
void world_done(struct world *world, uint64_t id);
/* J is durable as far as it was told. */
void world_flush(struct world *world);

/* An append with its own text, and what became of it. */
struct posting {
    struct spool_append append;
    struct world *world;
    struct list_node node; /* of world->postings: freed with it at the latest */
    char envelope[64], head[64];
    struct iovec piece;
    uint8_t *body;
    bool done;
};
struct posting *posting_create(struct world *world, uint32_t unit_count, const void *body,
                               size_t size);
int posting_begin(struct world *world, struct posting *posting);
/* Begun and durable. */
struct posting *post(struct world *world, uint32_t unit_count, const void *body, size_t size);
void posting_destroy(struct posting *posting);

/* Reads all of a message by a reader; what comes out is malloc'd. 0 or the error of opening or
 * reading. */
int read_back(struct world *world, const struct spool_location *location, uint8_t **ret_body,
              size_t *ret_size, bool *ret_hot);

/* Deterministic bytes. */
void fill_body(uint8_t *body, size_t size, uint32_t seed);
/* Changes one byte of a file. */
void flip(const char *dir, const char *name, uint64_t offset, uint8_t mask);
void path_of(const struct world *world, const char *name, char *path, size_t size);

#endif
