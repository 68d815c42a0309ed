/* Threads that share the items of one kernel: a static partition, spin, then park.
 *
 * Every worker has a mailbox of its own, so that a kernel with few items wakes few workers, and a
 * part finds the caches of the thread that had it before.  Whoever empties the mailbox runs the
 * part: the caller, done with its own, takes those that no worker has begun, so that a worker
 * without a core delays nothing.
 * A pool serves one run at a time; a second caller, and a forked child, run serially.
 * A pool may borrow the threads of an OpenMP runtime instead, where other code in the process uses
 * that: its threads spin for milliseconds after each loop, on the cores that ours would need.
 *
 * Linux.  The few functions of libc are declared here and sleeping is a raw futex, because a
 * compiler that links no libc (ziglang with -nostdlib: 0.1 s instead of 5) brings no headers. */
#include "oarlock.h"

#include <stdatomic.h>
#include <stddef.h>

typedef struct {
  long seconds, nanoseconds;
} ol_time;

extern int clock_gettime(int clock, ol_time *t);
extern long syscall(long number, ...);
extern int getpid(void);
extern int sched_yield(void);
extern int sched_getcpu(void);
extern int sched_getaffinity(int thread, size_t bytes, uint64_t *cores);
extern int sched_setaffinity(int thread, size_t bytes, const uint64_t *cores);
extern int posix_memalign(void **memory, size_t alignment, size_t bytes);
extern void free(void *memory);
extern int pthread_create(unsigned long *thread, const void *attributes, void *(*main)(void *),
                          void *argument);
extern int pthread_join(unsigned long thread, void **result);

#if defined(__x86_64__)
#define SYS_FUTEX 202
#elif defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64)
#define SYS_FUTEX 98
#else
#error "no futex number for this processor"
#endif
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#define MONOTONIC 1

#define MAX_CORES 1024 /* above these a worker stays where it is */
#define POLLS 512 /* between offers of the core: about 10 us */
#define LINE 128 /* bytes; two cache lines, against adjacent-line prefetch */

typedef struct {
  ol_item_fn fn;
  const ol_ctx *ctx;
  int64_t extent;
  int32_t parts;
  _Atomic int32_t left;   /* parts that are not finished */
  _Atomic int32_t status; /* of the first part that failed */
} ol_job;

/* Of an OpenMP runtime: GOMP_parallel, omp_get_thread_num, omp_get_num_threads. */
typedef struct {
  void (*fork)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
  int (*member)(void);
  int (*members)(void);
} ol_team;

typedef struct {
  ol_job *job;
  const ol_team *team;
} ol_loan;

typedef struct {
  _Alignas(LINE) _Atomic(ol_job *) job; /* NULL: nothing to begin */
  _Atomic int32_t parked;
  int32_t index; /* 1.. ; the caller is part 0 */
  struct ol_pool *pool;
  unsigned long thread;
} ol_worker;

struct ol_pool {
  int32_t threads; /* the caller included */
  int owner; /* process id */
  int64_t spin_ns;
  _Atomic int32_t busy;
  _Atomic int32_t core; /* that the caller last ran on */
  _Alignas(LINE) _Atomic int32_t waiting; /* the caller is parked */
  ol_worker *workers; /* NULL when the threads are borrowed */
  ol_team team;
};

static ol_job stop_job;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
  ol_time t;
  clock_gettime(MONOTONIC, &t);
  return (int64_t)t.seconds * 1000000000 + t.nanoseconds;
}

typedef struct {
  int64_t deadline;
  int32_t turns;
} ol_spin;

/* One turn of at most spin_ns; false when time is up.
 * Now and then whoever shares the core goes first: it may be the thread that is waited for. */
static int spins(ol_spin *s, int64_t spin_ns) {
  relax();
  if (++s->turns % POLLS) return 1;
  sched_yield();
  int64_t now = now_ns();
  if (!s->deadline) s->deadline = now + spin_ns;
  return now < s->deadline;
}

/* Sleeps while *flag is 1; may return early. */
static void sleep_on(_Atomic int32_t *flag) { syscall(SYS_FUTEX, flag, FUTEX_WAIT_PRIVATE, 1, NULL); }

/* Wakes the one thread that set *flag before it sleeps. */
static void wake(_Atomic int32_t *flag) {
  if (atomic_load(flag) && atomic_exchange(flag, 0)) syscall(SYS_FUTEX, flag, FUTEX_WAKE_PRIVATE, 1);
}

/* The job is gone once its last part is finished. */
static void run_part(ol_job *job, int32_t part, int32_t tid) {
  int64_t begin = job->extent / job->parts * part, rest = job->extent % job->parts;
  int64_t count = job->extent / job->parts + (part < rest);
  begin += part < rest ? part : rest;
  int32_t status = job->fn(job->ctx, begin, begin + count, tid);
  if (status != OL_OK) {
    int32_t none = OL_OK;
    atomic_compare_exchange_strong(&job->status, &none, status);
  }
  atomic_fetch_sub(&job->left, 1);
}

/* The job in the mailbox, which is empty now; NULL when another took it. */
static ol_job *take(ol_worker *w) {
  if (!atomic_load(&w->job)) return NULL;
  return atomic_exchange(&w->job, NULL);
}

/* Leaves the caller's core for any other one that is allowed.  A busy machine's scheduler may keep
 * both there, where they would take turns. */
static void make_way(const ol_pool *pool) {
  uint64_t allowed[MAX_CORES / 64] = {0}, others[MAX_CORES / 64], any = 0;
  int core = sched_getcpu();
  if (core < 0 || core >= MAX_CORES || core != atomic_load(&pool->core)) return;
  if (sched_getaffinity(0, sizeof allowed, allowed)) return;
  for (int i = 0; i < MAX_CORES / 64; i++) {
    others[i] = allowed[i] & ~(i == core / 64 ? UINT64_C(1) << core % 64 : 0);
    any |= others[i];
  }
  if (any && !sched_setaffinity(0, sizeof others, others))
    sched_setaffinity(0, sizeof allowed, allowed);
}

/* The next job, taken: spins for spin_ns, then sleeps. */
static ol_job *await_job(ol_worker *w) {
  ol_job *job;
  ol_spin spin = {0, 0};
  do {
    if ((job = take(w))) return job;
    if (spin.turns % POLLS == 0) make_way(w->pool);
  } while (spins(&spin, w->pool->spin_ns));
  for (;;) {
    atomic_store(&w->parked, 1);
    if ((job = take(w))) break;
    sleep_on(&w->parked);
  }
  atomic_store(&w->parked, 0);
  make_way(w->pool);
  return job;
}

static void *worker_main(void *argument) {
  ol_worker *w = argument;
  for (;;) {
    ol_job *job = await_job(w);
    if (job == &stop_job) return NULL;
    run_part(job, w->index, w->index);
    wake(&w->pool->waiting);
  }
}

static void post(ol_worker *w, ol_job *job) {
  atomic_store(&w->job, job);
  wake(&w->parked);
}

static void await_parts(ol_pool *pool, ol_job *job) {
  ol_spin spin = {0, 0};
  do {
    if (!atomic_load_explicit(&job->left, memory_order_acquire)) return;
  } while (spins(&spin, pool->spin_ns));
  for (;;) {
    atomic_store(&pool->waiting, 1);
    if (!atomic_load(&job->left)) break;
    sleep_on(&pool->waiting);
  }
  atomic_store(&pool->waiting, 0);
}

static int32_t parts_for(const ol_pool *pool, int64_t extent, int64_t grain) {
  int64_t most = extent / (grain > 0 ? grain : 1);
  return most < pool->threads ? (int32_t)most : pool->threads;
}

/* What each thread of a team runs: its part, and those of threads that the team lacks. */
static void run_parts(void *data) {
  const ol_loan *loan = data;
  int32_t parts = loan->job->parts, step = loan->team->members();
  for (int32_t part = loan->team->member(); part < parts; part += step)
    run_part(loan->job, part, part);
}

int32_t ol_pool_run(ol_pool *pool, ol_item_fn fn, const ol_ctx *ctx, int64_t extent, int64_t grain) {
  int32_t parts = pool ? parts_for(pool, extent, grain) : 1;
  if (extent <= 0) return OL_OK;
  if (parts < 2 || pool->owner != getpid() || atomic_exchange(&pool->busy, 1))
    return fn(ctx, 0, extent, 0);
  atomic_store_explicit(&pool->core, sched_getcpu(), memory_order_relaxed);
  ol_job job = {fn, ctx, extent, parts, parts, OL_OK};
  if (!pool->workers) { /* teams of another size would be started anew */
    ol_loan loan = {&job, &pool->team};
    pool->team.fork(run_parts, &loan, (unsigned)pool->threads, 0);
    atomic_store(&pool->busy, 0);
    return atomic_load(&job.status);
  }
  for (int32_t i = 0; i + 1 < parts; i++) post(&pool->workers[i], &job);
  run_part(&job, 0, 0);
  for (int32_t i = 0; i + 1 < parts; i++)
    if (take(&pool->workers[i])) run_part(&job, i + 1, 0);
  await_parts(pool, &job);
  atomic_store(&pool->busy, 0);
  return atomic_load(&job.status);
}

/* Stops and joins the workers.  In a forked child it only forgets them: they do not exist there. */
void ol_pool_destroy(ol_pool *pool) {
  if (!pool || pool->owner != getpid()) return;
  int32_t count = pool->workers ? pool->threads - 1 : 0;
  for (int32_t i = 0; i < count; i++) post(&pool->workers[i], &stop_job);
  for (int32_t i = 0; i < count; i++) pthread_join(pool->workers[i].thread, NULL);
  free(pool->workers);
  free(pool);
}

static int start_worker(ol_pool *pool, int32_t i) {
  ol_worker *w = &pool->workers[i];
  atomic_init(&w->job, NULL);
  atomic_init(&w->parked, 0);
  w->index = i + 1;
  w->pool = pool;
  return pthread_create(&w->thread, NULL, worker_main, w);
}

static ol_pool *new_pool(int32_t threads, int64_t spin_ns) {
  void *memory;
  if (threads < 1 || posix_memalign(&memory, LINE, sizeof(ol_pool))) return NULL;
  ol_pool *pool = memory;
  pool->workers = NULL;
  pool->threads = threads;
  pool->owner = getpid();
  pool->spin_ns = spin_ns;
  atomic_init(&pool->busy, 0);
  atomic_init(&pool->core, -1);
  atomic_init(&pool->waiting, 0);
  return pool;
}

/* A pool of up to `threads` of a team, the caller included; NULL when memory is short. */
ol_pool *ol_pool_borrow(int32_t threads, const ol_team *team) {
  ol_pool *pool = new_pool(threads, 0);
  if (pool) pool->team = *team;
  return pool;
}

/* A pool of `threads`, the caller included; NULL when memory or threads are short. */
ol_pool *ol_pool_create(int32_t threads, int64_t spin_ns) {
  void *memory;
  ol_pool *pool = new_pool(threads, spin_ns);
  if (!pool) return NULL;
  if (posix_memalign(&memory, LINE, sizeof(ol_worker) * (size_t)threads)) return free(pool), NULL;
  pool->workers = memory;
  pool->threads = 1;
  for (int32_t i = 0; i + 1 < threads; i++, pool->threads++) {
    if (start_worker(pool, i)) return ol_pool_destroy(pool), NULL;
  }
  return pool;
}

/* Everything of a call that stays the same, so that the caller passes one pointer. */
typedef struct {
  ol_run_fn run;
  char *const *buf;
  const char *weights;
  const int64_t *dims;
  char *scratch;
  int64_t scratch_bytes;
  ol_pool *pool;
  int32_t first_step, last_step;
  int64_t *profile_ns;
} ol_call;

int32_t ol_invoke(const ol_call *c) {
  return c->run(c->buf, c->weights, c->dims, c->scratch, c->scratch_bytes, c->pool, ol_pool_run,
                c->first_step, c->last_step, c->profile_ns);
}
