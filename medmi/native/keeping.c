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

typedef struct {
    const Pair *pairs, *mask;
    const int64_t *shape;
    const float *rim;
    int64_t channels, voxels, masked;
} Volume;

/* Where goes what is kept at one pose, whose rows hold `count` points: how many there are so far, and how many of them are edges. `channel`
is the way from one channel's rows to the next one's, in rows. */
typedef struct {
    float *values, *gradients, *weights, *edge_gradients;
    uint32_t *places, *edges;
    int64_t channel, count, kept, edge;
} Row;

/* A block of points on its way: where it lies, what is around each point, its weights, and in which order those with weight are packed. */
typedef struct {
    Placed placed;
    Corners corners;
    float weight[BLOCK];
    int32_t order[BLOCK];
    int size, some;
} Block;

INLINE void weigh(const Volume *volume, Block *block) {
    float seen[BLOCK];
    find_weights(&block->placed, block->size, block->weight);
    if (!volume->masked) return;
    find_corners(volume->mask, volume->shape, &block->placed, block->size, &block->corners);
    find_values(&block->corners, &block->placed, block->size, seen);
    for (int n = 0; n < block->size; n++) block->weight[n] = seen[n] >= 0.5f ? block->weight[n] : 0.0f;
}

INLINE void find_channel(const Volume *volume, int64_t c, Block *block) {
    find_corners(volume->pairs + c * volume->voxels, volume->shape, &block->placed, block->size, &block->corners);
}

/* Values go to where the block will be if all of it is kept. */
INLINE void keep_values(const Volume *volume, Block *block, Row *row) {
    for (int64_t c = 0; c < volume->channels; c++) {
        find_channel(volume, c, block);
        find_values(&block->corners, &block->placed, block->size, row->values + c * row->channel * row->count + row->kept);
    }
}

INLINE void keep_gradients(const Volume *volume, Block *block, Row *row) {
    float slope[3][BLOCK];
    for (int64_t c = 0; c < volume->channels; c++) {
        float *const here = row->gradients + 3 * c * row->channel * row->count + row->kept;
        if (volume->channels > 1) find_channel(volume, c, block);
        if (block->some == block->size) {
            find_gradients(&block->corners, &block->placed, block->size, here, here + row->count, here + 2 * row->count);
            continue;
        }
        find_gradients(&block->corners, &block->placed, block->size, slope[0], slope[1], slope[2]);
        for (int64_t axis = 0; axis < 3; axis++) pack(slope[axis], block->order, block->some, here + axis * row->count);
    }
}

INLINE void keep_all(const Block *block, int64_t start, Row *row) {
    uint32_t *const places = row->places + row->kept;
    for (int k = 0; k < block->size; k++) places[k] = (uint32_t)start + (uint32_t)k;
    memcpy(row->weights + row->kept, block->weight, (size_t)block->size * sizeof(float));
}

INLINE void keep_some(const Volume *volume, const Block *block, int64_t start, Row *row) {
    uint32_t *const places = row->places + row->kept;
    float whole[BLOCK];
    for (int64_t c = 0; c < volume->channels; c++) {
        float *const here = row->values + c * row->channel * row->count + row->kept;
        memcpy(whole, here, (size_t)block->size * sizeof(float));
        pack(whole, block->order, block->some, here);
    }
    pack(block->weight, block->order, block->some, row->weights + row->kept);
    for (int k = 0; k < block->some; k++) places[k] = (uint32_t)start + (uint32_t)block->order[k];
}

INLINE void keep_edge(const Block *block, int k, Row *row) {
    float *const x = row->edge_gradients + row->edge, *const y = x + row->count, *const z = y + row->count;
    row->edges[row->edge++] = (uint32_t)(row->kept + k);
    weight_gradient(&block->placed, block->some == block->size ? k : block->order[k], x, y, z);
}

/* Looked for among eight at a time: most are none. */
INLINE void keep_edges(const Block *block, Row *row) {
    const float *const weight = row->weights + row->kept;
    uint8_t edge[BLOCK] = {0};
    for (int k = 0; k < block->some; k++) edge[k] = (weight[k] > 0.0f) & (weight[k] < 1.0f);
    for (int first = 0; first < block->some; first += 8) {
        uint64_t any;
        memcpy(&any, edge + first, sizeof any);
        for (int k = first; any && k < first + 8; k++)
            if (edge[k]) keep_edge(block, k, row);
    }
}

/* A block inside as a whole is not weighed. One that is left in part is packed where gradients are asked, which cost more than packing;
else a point without weight comes along sooner than it is told from the others. */
INLINE void keep_block(const Volume *volume, int64_t start, int asked, Block *block, Row *row, double *sums) {
    const int size = block->size;
    double left = size;
    keep_values(volume, block, row);
    if (!volume->masked && all_inside(&block->placed, size)) {
        for (int n = 0; n < size; n++) block->weight[n] = 1.0f;
    } else {
        left = 0.0;
        weigh(volume, block);
        settle_block(
            row->values + row->kept, row->channel * row->count, volume->channels, volume->rim, size, block->weight, &left, sums + 1);
        if (volume->channels == 1 && volume->masked) find_channel(volume, 0, block);
    }
    sums[0] += left;
    if (left == 0.0) return;
    block->some = !asked || left == (double)size ? size : order_of(block->weight, size, block->order);
    if (asked) keep_gradients(volume, block, row);
    if (block->some == size)
        keep_all(block, start, row);
    else
        keep_some(volume, block, start, row);
    if (asked && left != (double)block->some) keep_edges(block, row);
    row->kept += block->some;
}

/* Poses that are near each other look at the same voxels. So the poses of a group take turns, each looking at so many blocks of points, while
the voxels around those are in a near cache. */
#define GROUP 4
#define TURN (8 * BLOCK)

/* What is kept so far at a pose of a group. */
typedef struct {
    Row row;
    float matrix[16];
    double sums[2];
} Visit;

INLINE void keep_turn(const Volume *volume, const float *points, int64_t count, int64_t start, int asked, Visit *visit) {
    Block block;
    for (const int64_t end = smaller(count, start + TURN); start < end; start += BLOCK) {
        block.size = (int)smaller(BLOCK, end - start);
        place(
            volume->shape, visit->matrix, points + start, points + count + start, points + 2 * count + start, block.size, &block.placed);
        keep_block(volume, start, asked, &block, &visit->row, visit->sums);
    }
}

/* No thread waits for want of poses. */
INLINE int64_t group_of(const Argument *a) {
    const int64_t each = a[3].shape[0] / a[13].whole;
    return each < 1 ? 1 : smaller(each, GROUP);
}

VECTOR static void keep_group(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    const int64_t *shape = a[0].shape + 1, poses = a[3].shape[0], count = a[4].shape[1], group = group_of(a);
    const Volume volume = {a[0].data, a[1].data, shape, a[2].data, a[0].shape[0], shape[0] * shape[1] * shape[2], a[1].size};
    const int64_t first = number * group, some = smaller(group, poses - first);
    int64_t *counts = a[9].data;
    double *sums = a[10].data;
    Visit visits[GROUP];
    for (int64_t k = 0; k < some; k++) {
        const int64_t b = first + k;
        visits[k].row = (Row){
            (float *)a[5].data + b * count, (float *)a[11].data + 3 * b * count, (float *)a[6].data + b * count,
            (float *)a[12].data + 3 * b * count, (uint32_t *)a[7].data + b * count, (uint32_t *)a[8].data + b * count, poses, count, 0, 0,
        };
        single((const double *)a[3].data + 16 * b, visits[k].matrix);
        visits[k].sums[0] = visits[k].sums[1] = 0.0;
    }
    for (int64_t start = 0; start < count; start += TURN)
        for (int64_t k = 0; k < some; k++) keep_turn(&volume, a[4].data, count, start, a[11].size > 0, visits + k);
    for (int64_t k = 0; k < some; k++) {
        const int64_t b = first + k;
        sums[b] = visits[k].sums[0], sums[poses + b] = visits[k].sums[1];
        counts[b] = visits[k].row.kept, counts[poses + b] = visits[k].row.edge;
    }
}

void keep(const Argument *a) {
    const int64_t poses = a[3].shape[0], group = group_of(a);
    share_out(keep_group, a, (poses + group - 1) / group, a[13].whole);
}

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
