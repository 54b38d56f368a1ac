/* Moments of voxel pairs in each cell of a joint histogram, and their way back: see medmi/information/kernels_cpu.py. */

#include "loops.h"

/* The loops in the images' own precision; `axes` are low and scale of x, then of y. */
#define MOMENT_LOOPS(REAL, NAME)                                                                                                      \
    INLINE REAL place_##NAME(REAL value, REAL low, REAL scale, REAL last) {                                                           \
        const REAL place = (value - low) * scale, above = place > 0 ? place : 0;                                                      \
        return above < last ? above : last;                                                                                           \
    }                                                                                                                                 \
                                                                                                                                      \
    void add_moments_##NAME(const Argument *a) {                                                                                      \
        const REAL *x = a[0].data, *y = a[1].data, *axes = a[2].data, last = (REAL)a[3].whole;                                        \
        const int32_t cells = (int32_t)a[3].whole;                                                                                    \
        double *table = a[4].data;                                                                                                    \
        for (int64_t n = 0; n < a[0].size; n++) {                                                                                     \
            const REAL u = place_##NAME(x[n], axes[0], axes[1], last), v = place_##NAME(y[n], axes[2], axes[3], last);                \
            const int32_t i = at_most((int32_t)u, cells - 1), j = at_most((int32_t)v, cells - 1);                                     \
            const REAL f = u - (REAL)i, g = v - (REAL)j;                                                                              \
            double *cell = table + 4 * (i * cells + j);                                                                               \
            cell[0] += 1.0, cell[1] += (double)g, cell[2] += (double)f, cell[3] += (double)(f * g);                                   \
        }                                                                                                                             \
    }                                                                                                                                 \
                                                                                                                                      \
    void read_slopes_##NAME(const Argument *a) {                                                                                      \
        const REAL *x = a[0].data, *y = a[1].data, *axes = a[2].data, *table = a[5].data, last = (REAL)a[3].whole;                    \
        const int32_t cells = (int32_t)a[3].whole;                                                                                    \
        const int64_t clipped = a[4].whole;                                                                                           \
        REAL *out = a[6].data;                                                                                                        \
        for (int64_t n = 0; n < a[0].size; n++) {                                                                                     \
            const REAL place = (x[n] - axes[0]) * axes[1];                                                                            \
            const REAL u = place_##NAME(x[n], axes[0], axes[1], last), v = place_##NAME(y[n], axes[2], axes[3], last);                \
            const int32_t i = at_most((int32_t)u, cells - 1), j = at_most((int32_t)v, cells - 1);                                     \
            const REAL *cell = table + 2 * (i * cells + j), slope = cell[0] + (v - (REAL)j) * cell[1];                                \
            out[n] = clipped && place != u ? 0 : slope;                                                                               \
        }                                                                                                                             \
    }

MOMENT_LOOPS(float, float)
MOMENT_LOOPS(double, double)
