/* Points that count at each pose, packed to the front, and the way back from their derivatives: see medmi/registration/kept_cpu.py. */

#include <string.h>

#include "lattice.h"
#include "sharing.h"

/* Which points of a block have weight, and how many. */
INLINE int order_of(const float *weights, int count, int32_t *order) {
    int k = 0;
    for (int n = 0; n < count; n++) {
        order[k] = n;
        k += weights[n] > 0.0f;
    }
    return k;
}

INLINE void pack(const float *row, const int32_t *order, int count, float *restrict packed) {
    for (int k = 0; k < count; k++) packed[k] = row[order[k]];
}

VECTOR static void keep_at(const Argument *a, int64_t b, int64_t worker) {
    (void)worker;
    const Pair *pairs = a[0].data, *mask = a[1].data;
    const float *rim = a[2].data, *points = a[4].data;
    const double *matrices = a[3].data;
    float *values = a[5].data, *weights = a[6].data, *gradients = a[11].data, *edge_gradients = a[12].data;
    uint32_t *places = a[7].data, *edges = a[8].data;
    int64_t *counts = a[9].data;
    double *sums = a[10].data;
    const int64_t channels = a[0].shape[0], *shape = a[0].shape + 1, voxels = shape[0] * shape[1] * shape[2];
    const int64_t poses = a[3].shape[0], count = a[4].shape[1], masked = a[1].size, asked = a[11].size;
    Placed placed;
    Corners corners;
    float m[16], weight[BLOCK], row[BLOCK], slope[3][BLOCK];
    int32_t order[BLOCK];
    int64_t kept = 0, edge = 0;
    float *const edge_rows = edge_gradients + b * 3 * count;
    single(matrices + 16 * b, m);
    sums[b] = sums[poses + b] = 0.0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int size = (int)smaller(BLOCK, count - start);
        /* Values go straight to where the block will be if all of it is kept. */
        float *const value_here = values + b * count + kept, *const weight_here = weights + b * count + kept;
        uint32_t *const place_here = places + b * count + kept;
        double left = 0.0;
        place(shape, m, points + start, points + count + start, points + 2 * count + start, size, &placed);
        const int inside = !masked && all_inside(&placed, size);
        if (!inside) {
            find_weights(&placed, size, weight);
            if (masked) {
                find_corners(mask, shape, &placed, size, &corners);
                find_values(&corners, &placed, size, row);
                for (int n = 0; n < size; n++) weight[n] = row[n] >= 0.5f ? weight[n] : 0.0f;
            }
        }
        for (int64_t c = 0; c < channels; c++) {
            find_corners(pairs + c * voxels, shape, &placed, size, &corners);
            find_values(&corners, &placed, size, value_here + c * poses * count);
        }
        if (inside)
            left = size;
        else
            settle_block(value_here, poses * count, channels, rim, size, weight, &left, sums + poses + b);
        sums[b] += left;
        if (left == 0.0) continue;
        const int some = left == (double)size ? size : order_of(weight, size, order), whole = some == size;
        for (int64_t c = 0; c < channels; c++) {
            float *const gradient_here = gradients + (c * poses + b) * 3 * count + kept;
            if (asked) {
                if (channels > 1) find_corners(pairs + c * voxels, shape, &placed, size, &corners);
                if (whole)
                    find_gradients(&corners, &placed, size, gradient_here, gradient_here + count, gradient_here + 2 * count);
                else
                    find_gradients(&corners, &placed, size, slope[0], slope[1], slope[2]);
            }
            if (whole) continue;
            memcpy(row, value_here + c * poses * count, (size_t)size * sizeof(float));
            pack(row, order, some, value_here + c * poses * count);
            for (int64_t axis = 0; asked && axis < 3; axis++) pack(slope[axis], order, some, gradient_here + axis * count);
        }
        if (inside)
            for (int n = 0; n < size; n++) place_here[n] = (uint32_t)(start + n), weight_here[n] = 1.0f;
        else
            for (int k = 0; k < some; k++) {
                const int n = whole ? k : order[k];
                place_here[k] = (uint32_t)(start + n), weight_here[k] = weight[n];
            }
        for (int k = 0; left != (double)some && k < some; k++) {
            if (weight_here[k] == 1.0f) continue;
            edges[b * count + edge] = (uint32_t)(kept + k);
            if (asked)
                weight_gradient(
                    &placed, whole ? k : order[k], edge_rows + edge, edge_rows + count + edge, edge_rows + 2 * count + edge);
            edge++;
        }
        kept += some;
    }
    counts[b] = kept, counts[poses + b] = edge;
}

void keep(const Argument *a) { share_out(keep_at, a, a[3].shape[0], a[13].whole); }

/* Coordinates of the points at some places: where those are neighbours, the points themselves. */
typedef struct {
    const float *x, *y, *z;
    float own[3][BLOCK];
} Gathered;

INLINE void gather(const float *points, int64_t count, const uint32_t *places, int size, Gathered *at) {
    const uint32_t first = places[0];
    at->x = points + first, at->y = points + count + first, at->z = points + 2 * count + first;
    if (places[size - 1] - first == (uint32_t)(size - 1)) return;
    for (int n = 0; n < size; n++) at->own[0][n] = points[places[n]];
    for (int n = 0; n < size; n++) at->own[1][n] = points[count + places[n]];
    for (int n = 0; n < size; n++) at->own[2][n] = points[2 * count + places[n]];
    at->x = at->own[0], at->y = at->own[1], at->z = at->own[2];
}

VECTOR static void pull_back_at(const Argument *a, int64_t b, int64_t worker) {
    (void)worker;
    const float *by_value = a[0].data, *by_weight = a[1].data, *factors = a[2].data, *gradients = a[6].data, *edge_gradients = a[7].data;
    const uint32_t *places = a[3].data, *edges = a[4].data;
    const int64_t *counts = a[5].data;
    const double *matrices = a[8].data;
    const float *points = a[9].data;
    double *out = a[10].data;
    const int64_t channels = a[0].shape[0], poses = a[0].shape[1], count = a[3].shape[1], whole = a[9].shape[1];
    /* Terms that fill their derivatives row by row make them no longer than they must. */
    const int64_t by_value_row = a[0].shape[2], by_weight_row = a[1].shape[1];
    Gathered at;
    uint32_t spots[BLOCK];
    float m[16], slope[BLOCK];
    const uint32_t *place_row = places + b * count, *edge_row = edges + b * count;
    const float *edge_slopes = edge_gradients + b * 3 * count;
    double *const total = out + 16 * b;
    single(matrices + 16 * b, m);
    for (int k = 0; k < 16; k++) total[k] = 0.0;
    for (int64_t start = 0; start < counts[b]; start += BLOCK) {
        const int size = (int)smaller(BLOCK, counts[b] - start);
        gather(points, whole, place_row + start, size, &at);
        for (int64_t c = 0; c < channels; c++) {
            const float *rows = gradients + (c * poses + b) * 3 * count + start;
            project_block(
                by_value + (c * poses + b) * by_value_row + start, rows, rows + count, rows + 2 * count, m, at.x, at.y, at.z, size, total);
        }
    }
    for (int k = 0; k < 16; k++) total[k] *= factors[b];
    for (int64_t start = 0; start < counts[poses + b]; start += BLOCK) {
        const int size = (int)smaller(BLOCK, counts[poses + b] - start);
        for (int n = 0; n < size; n++) {
            spots[n] = place_row[edge_row[start + n]];
            slope[n] = by_weight[b * by_weight_row + start + n] * factors[b] + factors[poses + b];
        }
        gather(points, whole, spots, size, &at);
        project_block(
            slope, edge_slopes + start, edge_slopes + count + start, edge_slopes + 2 * count + start, m, at.x, at.y, at.z, size, total);
    }
}

void pull_back(const Argument *a) { share_out(pull_back_at, a, a[0].shape[1], a[11].whole); }
