/* The threads of a step. They are those of PyTorch's OpenMP library, so that two pools do not compete for the cores.
 *
 * A step is a row of phases, and a phase has tasks. A thread goes on as soon as all tasks of a phase are done, whoever
 * did them. So a thread that the system has suspended holds nobody up, unless it is in the middle of a task.
 */
#pragma once

#include <immintrin.h>
#include <sched.h>
#include <stdint.h>

#define SPINS 2000 /* before a thread that waits lets others have its core */

typedef struct {
  void (*parallel)(void (*)(void *), void *, unsigned, unsigned); /* GOMP_parallel; null: one thread */
  int (*number)(void);                                            /* omp_get_thread_num */
} openmp;

/* Tasks of a phase that were taken and that are done, in a cache line of their own. */
typedef struct {
  int64_t taken, done;
  char padding[48];
} phase;

/* What one thread knows. */
typedef struct {
  phase *now;
  int threads, number;
} team;

/* The next task of this phase. It is one of the phase's if it is less than their number. */
static inline int64_t take(team *t) {
  return t->threads == 1 ? t->now->taken++ : __atomic_fetch_add(&t->now->taken, 1, __ATOMIC_RELAXED);
}

/* Say that a task is done. */
static inline void finish(team *t) {
  if (t->threads > 1) __atomic_fetch_add(&t->now->done, 1, __ATOMIC_RELEASE);
}

/* Wait until all tasks of this phase are done, and begin the next phase. */
static inline void meet(team *t, int64_t tasks) {
  if (t->threads > 1)
    for (int spins = 0; __atomic_load_n(&t->now->done, __ATOMIC_ACQUIRE) < tasks; spins++) {
      if (spins < SPINS)
        _mm_pause();
      else
        sched_yield();
    }
  t->now++;
}

#define FOR_TASKS(task, tasks) for (int64_t task; (task = take(t)) < (tasks); finish(t))
