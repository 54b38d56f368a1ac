/* Interpolation of all points at each pose, what counts at the rim, and the way back: see medmi/registration/kernels_cpu.py. */

#include <string.h>

#include "lattice.h"
#include "sharing.h"

VECTOR static void pair_up_stretch(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    const float *volume = a[0].data;
    Pair *pairs = a[2].data;
    const int64_t on = a[1].whole, end = smaller((number + 1) * STRETCH, a[0].size - 1);
    for (int64_t n = number * STRETCH; n < end; n++) pairs[n].first = volume[n], pairs[n].second = volume[n + on];
}

/* Each voxel with the next one in memory, or with itself. */
void pair_up(const Argument *a) {
    const int64_t last = a[0].size - 1;
    Pair *pairs = a[2].data;
    share_out(pair_up_stretch, a, stretches_of(last), a[3].whole);
    pairs[last].first = pairs[last].second = ((const float *)a[0].data)[last];
}

VECTOR void sample(const Argument *a) {
    const Pair *pairs = a[0].data, *mask = a[1].data;
    const double *matrices = a[2].data;
    const float *points = a[3].data;
    float *values = a[4].data, *gradients = a[5].data;
    const int64_t channels = a[0].shape[0], *shape = a[0].shape + 1, voxels = shape[0] * shape[1] * shape[2];
    const int64_t poses = a[2].shape[0], count = a[3].shape[1], masked = a[1].size, asked = a[5].size;
    Placed placed;
    Corners corners;
    float m[16], seen[BLOCK];
    for (int64_t b = 0; b < poses; b++) {
        single(matrices + 16 * b, m);
        for (int64_t start = 0; start < count; start += BLOCK) {
            const int size = (int)smaller(BLOCK, count - start);
            float *weights = values + (channels * poses + b) * count + start;
            place(shape, m, points + start, points + count + start, points + 2 * count + start, size, &placed);
            for (int64_t c = 0; c < channels; c++) {
                find_corners(pairs + c * voxels, shape, &placed, size, &corners);
                find_values(&corners, &placed, size, values + (c * poses + b) * count + start);
                float *rows = gradients + (c * poses + b) * 3 * count + start;
                if (asked) find_gradients(&corners, &placed, size, rows, rows + count, rows + 2 * count);
            }
            find_weights(&placed, size, weights);
            float *rows = gradients + (channels * poses + b) * 3 * count + start;
            if (asked)
                for (int n = 0; n < size; n++) weight_gradient(&placed, n, rows + n, rows + count + n, rows + 2 * count + n);
            if (masked) {
                find_corners(mask, shape, &placed, size, &corners);
                find_values(&corners, &placed, size, seen);
                for (int n = 0; n < size; n++) weights[n] = seen[n] >= 0.5f ? weights[n] : 0.0f;
            }
        }
    }
}

VECTOR void settle_rim(const Argument *a) {
    const float *values = a[0].data, *rim = a[2].data;
    float *weights = a[1].data;
    double *out = a[3].data;
    const int64_t channels = a[0].shape[0], poses = a[0].shape[1], count = a[0].shape[2];
    for (int64_t b = 0; b < poses; b++) {
        out[b] = out[poses + b] = 0.0;
        for (int64_t start = 0; start < count; start += BLOCK) {
            const int64_t at = b * count + start;
            const int size = (int)smaller(BLOCK, count - start);
            settle_block(values + at, poses * count, channels, rim, size, weights + at, out + b, out + poses + b);
        }
    }
}

VECTOR void project(const Argument *a) {
    const float *derivatives = a[0].data, *gradients = a[1].data, *points = a[3].data;
    const double *matrices = a[2].data;
    double *out = a[4].data;
    const int64_t channels = a[0].shape[0], poses = a[0].shape[1], count = a[0].shape[2];
    float m[16];
    memset(out, 0, (size_t)(16 * poses) * sizeof(double));
    for (int64_t b = 0; b < poses; b++) {
        single(matrices + 16 * b, m);
        for (int64_t c = 0; c < channels; c++)
            for (int64_t start = 0; start < count; start += BLOCK) {
                const float *rows = gradients + (c * poses + b) * 3 * count + start;
                project_block(
                    derivatives + (c * poses + b) * count + start, rows, rows + count, rows + 2 * count, m, points + start,
                    points + count + start, points + 2 * count + start, (int)smaller(BLOCK, count - start), out + 16 * b);
            }
    }
}
