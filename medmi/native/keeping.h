/* Points that count at a pose, packed to the front, block by block: see medmi/registration/kept_cpu.py. */

#ifndef MEDMI_KEEPING_H
#define MEDMI_KEEPING_H

#include <string.h>

#include "lattice.h"

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

/* Of a loop whose first arguments are the moving image's voxels and mask, paired, and its rim. */
INLINE Volume volume_of(const Argument *a) {
    const int64_t *shape = a[0].shape + 1;
    return (Volume){a[0].data, a[1].data, shape, a[2].data, a[0].shape[0], shape[0] * shape[1] * shape[2], a[1].size};
}

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

/* All of the `count` points from `start` up to `end`, at the pose of `matrix`. */
INLINE void keep_points(
    const Volume *volume, const float *matrix, const float *points, int64_t count, int64_t start, int64_t end, int asked, Row *row,
    double *sums) {
    Block block;
    for (; start < end; start += BLOCK) {
        block.size = (int)smaller(BLOCK, end - start);
        place(volume->shape, matrix, points + start, points + count + start, points + 2 * count + start, block.size, &block.placed);
        keep_block(volume, start, asked, &block, row, sums);
    }
}

#endif
