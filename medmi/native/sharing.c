/* Threads that share out the poses of a loop.

Loops take less time than it takes to wake a thread. So threads that have nothing to do look out for work for a while before they sleep, and
the caller does not wait for those that sleep: it takes one pose after the other itself, and in the end waits for those alone that are at
work on one. Whoever calls while another caller has the threads does its own work alone. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pythread.h>
#include <stdatomic.h>
#include <string.h>
#if defined(_WIN32)
#include <windows.h>
#else
#include <sched.h>
#endif

#include "sharing.h"

#define MOST_WORKERS 63
/* A few tenths of a millisecond. */
#define LOOKS 6000

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif
#if defined(_WIN32)
#define GIVE_WAY() SwitchToThread()
#else
#define GIVE_WAY() sched_yield()
#endif

/* Looking out, whoever else wants the processor goes first. */
static void look_away(int looks) {
    if (looks % 64 == 63)
        GIVE_WAY();
    else
        PAUSE();
}

typedef struct {
    PyThread_type_lock wake;
    atomic_int asleep;
    int64_t number;
} Worker;

static struct {
    PyThread_type_lock taken;
    int64_t started;
    /* The job: written while it is closed, read by those who are inside while it is open. */
    Task task;
    const Argument *arguments;
    int64_t count, wanted;
    _Atomic int64_t next;
    atomic_int open, inside;
    atomic_uint jobs;
    Worker workers[MOST_WORKERS];
} pool;

static void do_poses(int64_t worker) {
    int64_t pose;
    while ((pose = atomic_fetch_add(&pool.next, 1)) < pool.count) pool.task(pool.arguments, pose, worker);
}

static void wait_for_job(Worker *self, unsigned *seen) {
    for (int k = 0; k < LOOKS; k++) {
        if (atomic_load(&pool.jobs) != *seen) break;
        look_away(k);
    }
    if (atomic_load(&pool.jobs) == *seen) {
        atomic_store(&self->asleep, 1);
        /* Whoever takes `asleep` back lets the lock go, or need not take it. */
        if (atomic_load(&pool.jobs) == *seen || !atomic_exchange(&self->asleep, 0)) PyThread_acquire_lock(self->wake, WAIT_LOCK);
    }
    *seen = atomic_load(&pool.jobs);
}

static void work(void *argument) {
    Worker *self = argument;
    unsigned seen = 0;
    for (;;) {
        wait_for_job(self, &seen);
        atomic_fetch_add(&pool.inside, 1);
        if (atomic_load(&pool.open) && self->number <= pool.wanted) do_poses(self->number);
        atomic_fetch_sub(&pool.inside, 1);
    }
}

/* How many workers there are, up to those wanted. */
static int64_t start_workers(int64_t wanted) {
    wanted = smaller(wanted, MOST_WORKERS);
    for (; pool.started < wanted; pool.started++) {
        Worker *worker = pool.workers + pool.started;
        worker->number = pool.started + 1;
        worker->wake = PyThread_allocate_lock();
        if (!worker->wake) break;
        PyThread_acquire_lock(worker->wake, WAIT_LOCK);
        if (PyThread_start_new_thread(work, worker) == PYTHREAD_INVALID_THREAD_ID) {
            PyThread_free_lock(worker->wake);
            break;
        }
    }
    return smaller(pool.started, wanted);
}

static int take_pool(void) {
    return pool.taken && PyThread_acquire_lock(pool.taken, NOWAIT_LOCK);
}

void share_out(Task task, const Argument *a, int64_t count, int64_t threads) {
    const int64_t shares = smaller(threads, count);
    if (shares < 2 || !take_pool()) {
        for (int64_t pose = 0; pose < count; pose++) task(a, pose, 0);
        return;
    }
    pool.wanted = start_workers(shares - 1);
    pool.task = task, pool.arguments = a, pool.count = count;
    atomic_store(&pool.next, 0);
    atomic_store(&pool.open, 1);
    atomic_fetch_add(&pool.jobs, 1);
    for (int64_t k = 0; k < pool.wanted; k++)
        if (atomic_exchange(&pool.workers[k].asleep, 0)) PyThread_release_lock(pool.workers[k].wake);
    do_poses(0);
    atomic_store(&pool.open, 0);
    for (int k = 0; atomic_load(&pool.inside); k = (k + 1) % 64) look_away(k);
    PyThread_release_lock(pool.taken);
}

void forget_threads(void) {
    memset(&pool, 0, sizeof pool);
    pool.taken = PyThread_allocate_lock();
}
