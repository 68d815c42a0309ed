/* The interface between a compiled program, the thread pool and the caller. */
#ifndef OARLOCK_H
#define OARLOCK_H

#include <stdint.h>

enum {
  OL_OK = 0,
  OL_INDEX = 1, /* an index outside its axis */
  OL_DIM = 2,   /* sizes that the program does not allow */
  OL_OTHER = 3  /* 4..15 are free, 16 and above reserved */
};

/* What a kernel sees of a run. */
typedef struct ol_ctx {
  char *const *buf;      /* one pointer per buffer: inputs, outputs, arena */
  const char *weights;   /* packed constants, 64-byte aligned */
  const int64_t *dims;   /* values of the program's symbolic dims */
  char *scratch;         /* scratch_bytes for each thread, one after the other */
  int64_t scratch_bytes; /* per thread */
  char *const *args;     /* the buffers and constants of this launch */
} ol_ctx;

/* Computes items [begin, end) of a kernel on thread tid; a status. */
typedef int32_t (*ol_item_fn)(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid);

typedef struct ol_pool ol_pool;

/* Runs fn over [0, extent), at least grain items to a thread; the first status that is not 0.
 * pool NULL: on the calling thread. */
typedef int32_t (*ol_parallel_fn)(ol_pool *pool, ol_item_fn fn, const ol_ctx *c, int64_t extent,
                                  int64_t grain);

/* What every engine exports as oarlock_run: steps [first, last).
 * profile_ns: NULL, or one slot for each top-level step. */
typedef int32_t (*ol_run_fn)(char *const *buf, const char *weights, const int64_t *dims,
                             char *scratch, int64_t scratch_bytes, ol_pool *pool,
                             ol_parallel_fn parallel, int32_t first_step, int32_t last_step,
                             int64_t *profile_ns);

#endif
