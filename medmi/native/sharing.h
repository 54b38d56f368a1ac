/* Threads that share out the poses of a loop, or the stretches of a long row. */

#ifndef MEDMI_SHARING_H
#define MEDMI_SHARING_H

#include "loops.h"

/* Does the work of one pose, or stretch; `worker` tells which of the threads it is, from 0 to one less than there are. */
typedef void (*Task)(const Argument *a, int64_t pose, int64_t worker);

/* Do the task for poses 0 to count - 1 on so many threads at most, of which the caller is one. */
void share_out(Task task, const Argument *a, int64_t count, int64_t threads);

/* So many elements of a row are one stretch. */
#define STRETCH 65536

INLINE int64_t stretches_of(int64_t count) { return (count + STRETCH - 1) / STRETCH; }

/* What a forked child does before anything else: it has none of its parent's threads. */
void forget_threads(void);

#endif
