/* Points that count at each pose, and the way back from their derivatives: see medmi/registration/kept_cpu.py. */

#include "keeping.h"
#include "sharing.h"

VECTOR static void keep_at(const Argument *a, int64_t b, int64_t worker) {
    (void)worker;
    const Volume volume = volume_of(a);
    const int64_t poses = a[3].shape[0], count = a[4].shape[1];
    int64_t *counts = a[9].data;
    double *sums = a[10].data, own[2] = {0.0, 0.0};
    float matrix[16];
    Row row = {
        (float *)a[5].data + b * count, (float *)a[11].data + 3 * b * count, (float *)a[6].data + b * count,
        (float *)a[12].data + 3 * b * count, (uint32_t *)a[7].data + b * count, (uint32_t *)a[8].data + b * count, poses, count, 0, 0,
    };
    single((const double *)a[3].data + 16 * b, matrix);
    keep_points(&volume, matrix, a[4].data, count, 0, count, a[11].size > 0, &row, own);
    sums[b] = own[0], sums[poses + b] = own[1];
    counts[b] = row.kept, counts[poses + b] = row.edge;
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
