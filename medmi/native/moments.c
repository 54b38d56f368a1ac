/* Moments of voxel pairs in each cell of a joint histogram, and their way back, in the images' own precision: see
medmi/information/kernels_cpu.py. */

#include "loops.h"

typedef struct {
    double of[4];
} Moments;

#define REAL float
#define NAMED(loop) loop##_float
#include "moments.h"
#undef REAL
#undef NAMED

#define REAL double
#define NAMED(loop) loop##_double
#include "moments.h"
