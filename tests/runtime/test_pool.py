"""The thread pool: partitions, failures, nesting, forks; under ThreadSanitizer where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from oarlock.runtime import toolchain

DRIVER = r"""
#include "pool.c"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) do { if (!(x)) { printf("line %d: %s\n", __LINE__, #x); exit(1); } } while (0)

enum { N = 1000 };
static int32_t count[N];
static int32_t seen[64]; /* parts of each thread */

static int32_t item(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid) {
  (void)c;
  seen[tid]++;
  for (int64_t i = begin; i < end; i++) count[i]++;
  return OL_OK;
}

static int32_t failing(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid) {
  (void)c; (void)end; (void)tid;
  return begin > 0 ? OL_INDEX : OL_OK;
}

typedef struct { ol_pool *pool; int32_t sum; } nest;
static int32_t inner(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid) {
  (void)tid;
  __atomic_fetch_add(&((nest *)c->buf)->sum, (int32_t)(end - begin), __ATOMIC_RELAXED);
  return OL_OK;
}
static int32_t outer(const ol_ctx *c, int64_t begin, int64_t end, int32_t tid) {
  (void)tid;
  for (int64_t i = begin; i < end; i++) ol_pool_run(((nest *)c->buf)->pool, inner, c, 10, 1);
  return OL_OK;
}

static void cover(ol_pool *pool, int64_t extent, int64_t grain, int32_t parts) {
  memset(count, 0, sizeof count);
  memset(seen, 0, sizeof seen);
  CHECK(ol_pool_run(pool, item, NULL, extent, grain) == OL_OK);
  int32_t used = 0;
  for (int i = 0; i < N; i++) CHECK(count[i] == (i < extent));
  for (int i = 0; i < 64; used += seen[i++]) CHECK(i < 1 || seen[i] <= 1);
  CHECK(used == parts);
}

/* Workers that never get a core delay nothing. */
static void starve(void) {
  ol_worker workers[2];
  memset(workers, 0, sizeof workers);
  ol_pool pool = {.threads = 3, .owner = getpid(), .spin_ns = 1000, .workers = workers};
  cover(&pool, N, 1, 3);
  CHECK(seen[0] == 3);
  CHECK(ol_pool_run(&pool, failing, NULL, N, 1) == OL_INDEX);
}

/* A thread on the caller's core moves to another one, and is as free as before. */
static void move(void) {
  uint64_t before[MAX_CORES / 64] = {0}, after[MAX_CORES / 64] = {0};
  CHECK(!sched_getaffinity(0, sizeof before, before));
  int cores = 0, moved = 0;
  for (int i = 0; i < MAX_CORES / 64; i++) cores += __builtin_popcountll(before[i]);
  for (int i = 0; i < 1000 && !moved; i++) {
    int core = sched_getcpu();
    ol_pool pool = {.core = core};
    make_way(&pool);
    moved = sched_getcpu() != core;
  }
  CHECK(moved == (cores > 1));
  CHECK(!sched_getaffinity(0, sizeof after, after) && !memcmp(before, after, sizeof before));
}

int main(void) {
  starve();
  move();
  for (int round = 0; round < 3; round++) {
    int64_t spin = round == 0 ? 0 : round == 1 ? 100000 : 1000;
    for (int32_t threads = 1; threads <= 5; threads++) {
      ol_pool *pool = ol_pool_create(threads, spin);
      CHECK(pool);
      cover(pool, 0, 1, 0);
      cover(pool, 1, 1, 1);
      cover(pool, N, N, 1);
      cover(pool, 7, 3, threads < 2 ? 1 : 2);
      for (int i = 0; i < 200; i++) {
        cover(pool, N, 1, threads);
        if (i % 50 == 0) usleep(500);
      }
      CHECK(ol_pool_run(pool, failing, NULL, N, 1) == (threads > 1 ? OL_INDEX : OL_OK));
      nest n = {pool, 0};
      ol_ctx c = {(char *const *)&n, NULL, NULL, NULL, 0, NULL};
      CHECK(ol_pool_run(pool, outer, &c, 20, 1) == OL_OK && n.sum == 200);
      cover(pool, N, 1, threads);
#ifdef FORK
      int status = 0;
      pid_t child = fork();
      if (child == 0) {
        cover(pool, N, 1, 1);
        ol_pool_destroy(pool);
        _exit(7);
      }
      waitpid(child, &status, 0);
      CHECK(WEXITSTATUS(status) == 7);
#endif
      ol_pool_destroy(pool);
    }
  }
  CHECK(ol_pool_run(NULL, item, NULL, 3, 1) == OL_OK);
  CHECK(ol_pool_create(0, 0) == NULL);
  puts("ok");
  return 0;
}
"""

BUILDS = {
    "plain": ["-O2", "-DFORK", "-Wall", "-Wextra", "-Werror"],
    "thread": ["-O1", "-g", "-fsanitize=thread"],
    "address": ["-O1", "-g", "-DFORK", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}


def compile_driver(source: Path, flags: list[str], output: Path) -> None:
    """With a compiler that has what the flags need; some lack the runtime of a sanitizer."""
    errors = []
    for compiler in filter(None, map(shutil.which, ("clang", "gcc"))):
        command = [compiler, "-std=gnu11", f"-I{toolchain.CSRC}", *flags, str(source), "-pthread"]
        done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
        if done.returncode == 0:
            return
        errors.append(done.stderr)
    missing = [e for e in errors if "cannot find" in e and "san" in e]
    if len(missing) == len(errors):
        pytest.skip("no compiler here has this sanitizer; ziglang's libc takes a long build")
    pytest.fail("\n".join(errors))


@pytest.mark.parametrize("build", BUILDS)
def test_pool(tmp_path: Path, build: str):
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    compile_driver(source, BUILDS[build], tmp_path / "driver")
    run = subprocess.run([str(tmp_path / "driver")], capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "ok\n", "")
