/* Blocks of points on a lattice: the cell that each falls in, trilinear values and gradients, weights at the rim, the way back to a pose.

A lattice is a volume (X, Y, Z) whose voxels are paired with the next along the last axis: one look-up brings both. */

#ifndef MEDMI_LATTICE_H
#define MEDMI_LATTICE_H

#include "loops.h"

typedef struct {
    float first, second;
} Pair;

/* Where a block of points lies: the first voxel of each one's cell, the fractions on from there, and how far beyond the lattice it is
along each axis in voxels: negative before it, positive behind it. */
typedef struct {
    uint32_t cell[BLOCK];
    float u[BLOCK], v[BLOCK], w[BLOCK];
    float beyond_u[BLOCK], beyond_v[BLOCK], beyond_w[BLOCK];
} Placed;

/* The eight voxels around each point as four pairs: the first axis slowest. */
typedef struct {
    Pair c00[BLOCK], c01[BLOCK], c10[BLOCK], c11[BLOCK];
} Corners;

INLINE void single(const double *matrix, float *m) {
    for (int k = 0; k < 16; k++) m[k] = (float)matrix[k];
}

/* Points beyond the lattice are clamped to it. NaN ends at 0, a long way off. */
INLINE void place(
    const int64_t *shape, const float *m, const float *xs, const float *ys, const float *zs, int count, Placed *placed) {
    const int32_t ny = (int32_t)shape[1], nz = (int32_t)shape[2];
    const float last_u = (float)(shape[0] - 1), last_v = (float)(shape[1] - 1), last_w = (float)(shape[2] - 1);
    const int32_t top_u = shape[0] > 2 ? (int32_t)shape[0] - 2 : 0, top_v = ny > 2 ? ny - 2 : 0, top_w = nz > 2 ? nz - 2 : 0;
    for (int n = 0; n < count; n++) {
        const float x = xs[n], y = ys[n], z = zs[n];
        const float h = 1.0f / (m[12] * x + m[13] * y + m[14] * z + m[15]);
        const float u = (m[0] * x + m[1] * y + m[2] * z + m[3]) * h;
        const float v = (m[4] * x + m[5] * y + m[6] * z + m[7]) * h;
        const float w = (m[8] * x + m[9] * y + m[10] * z + m[11]) * h;
        const float cu = between(u, 0.0f, last_u), cv = between(v, 0.0f, last_v), cw = between(w, 0.0f, last_w);
        const int32_t i = at_most((int32_t)cu, top_u), j = at_most((int32_t)cv, top_v), k = at_most((int32_t)cw, top_w);
        placed->beyond_u[n] = u - cu, placed->beyond_v[n] = v - cv, placed->beyond_w[n] = w - cw;
        placed->u[n] = cu - (float)i, placed->v[n] = cv - (float)j, placed->w[n] = cw - (float)k;
        placed->cell[n] = (uint32_t)((i * ny + j) * nz + k);
    }
}

INLINE void find_corners(const Pair *pairs, const int64_t *shape, const Placed *placed, int count, Corners *corners) {
    const int64_t below = shape[0] > 1 ? shape[1] * shape[2] : 0, beside = shape[1] > 1 ? shape[2] : 0;
    const Pair *p00 = pairs, *p01 = pairs + beside, *p10 = pairs + below, *p11 = p10 + beside;
    for (int n = 0; n < count; n++) {
        const uint32_t at = placed->cell[n];
        corners->c00[n] = p00[at], corners->c01[n] = p01[at], corners->c10[n] = p10[at], corners->c11[n] = p11[at];
    }
}

INLINE void find_values(const Corners *corners, const Placed *placed, int count, float *values) {
    for (int n = 0; n < count; n++) {
        const Pair a = corners->c00[n], b = corners->c01[n], c = corners->c10[n], d = corners->c11[n];
        const float u = placed->u[n], v = placed->v[n], w = placed->w[n];
        const float v00 = a.first + w * (a.second - a.first), v01 = b.first + w * (b.second - b.first);
        const float v10 = c.first + w * (c.second - c.first), v11 = d.first + w * (d.second - d.first);
        const float v0 = v00 + v * (v01 - v00), v1 = v10 + v * (v11 - v10);
        values[n] = v0 + u * (v1 - v0);
    }
}

/* By index. Beyond the lattice nothing changes along that axis. */
INLINE void find_gradients(const Corners *corners, const Placed *placed, int count, float *gx, float *gy, float *gz) {
    for (int n = 0; n < count; n++) {
        const Pair a = corners->c00[n], b = corners->c01[n], c = corners->c10[n], d = corners->c11[n];
        const float u = placed->u[n], v = placed->v[n], w = placed->w[n];
        const float d00 = a.second - a.first, d01 = b.second - b.first, d10 = c.second - c.first, d11 = d.second - d.first;
        const float v00 = a.first + w * d00, v01 = b.first + w * d01, v10 = c.first + w * d10, v11 = d.first + w * d11;
        const float d0 = d00 + v * (d01 - d00), d1 = d10 + v * (d11 - d10);
        const float along_x = v10 + v * (v11 - v10) - (v00 + v * (v01 - v00));
        const float along_y = v01 - v00 + u * (v11 - v10 - (v01 - v00));
        const float along_z = d0 + u * (d1 - d0);
        gx[n] = placed->beyond_u[n] == 0.0f ? along_x : 0.0f;
        gy[n] = placed->beyond_v[n] == 0.0f ? along_y : 0.0f;
        gz[n] = placed->beyond_w[n] == 0.0f ? along_z : 0.0f;
    }
}

INLINE int all_inside(const Placed *placed, int count) {
    int beyond = 0;
    for (int n = 0; n < count; n++)
        beyond |= (placed->beyond_u[n] != 0.0f) | (placed->beyond_v[n] != 0.0f) | (placed->beyond_w[n] != 0.0f);
    return !beyond;
}

INLINE float ramp(float beyond) {
    const float left = 1.0f - fabsf(beyond);
    return left > 0.0f ? left : 0.0f;
}

INLINE void find_weights(const Placed *placed, int count, float *weights) {
    for (int n = 0; n < count; n++)
        weights[n] = ramp(placed->beyond_u[n]) * ramp(placed->beyond_v[n]) * ramp(placed->beyond_w[n]);
}

INLINE float against(float beyond, float others) { return beyond > 0.0f ? -others : (beyond < 0.0f ? others : 0.0f); }

INLINE void weight_gradient(const Placed *placed, int n, float *gx, float *gy, float *gz) {
    const float u = placed->beyond_u[n], v = placed->beyond_v[n], w = placed->beyond_w[n];
    const float a = ramp(u), b = ramp(v), c = ramp(w);
    const int inside = (a > 0.0f) & (b > 0.0f) & (c > 0.0f);
    *gx = inside ? against(u, b * c) : 0.0f;
    *gy = inside ? against(v, a * c) : 0.0f;
    *gz = inside ? against(w, a * b) : 0.0f;
}

/* Background is 1 where all values (C rows, `stride` apart) are under the rim. Elsewhere a weight under 1 becomes 0. Tells the weight that
is left and how much is missing over background. */
INLINE void settle_block(
    const float *values, int64_t stride, int64_t channels, const float *rim, int count, float *weights, double *left, double *missing) {
    float background[BLOCK], lost = 0.0f, stays = 0.0f;
    for (int n = 0; n < count; n++) background[n] = 1.0f;
    for (int64_t c = 0; c < channels; c++)
        for (int n = 0; n < count; n++) background[n] = values[c * stride + n] < rim[c] ? background[n] : 0.0f;
    for (int n = 0; n < count; n++) {
        lost += (1.0f - weights[n]) * background[n];
        weights[n] = weights[n] == 1.0f ? 1.0f : weights[n] * background[n];
        stays += weights[n];
    }
    *left += stays, *missing += lost;
}

/* Add to out (4, 4) the chain rule from derivatives by the values and their index gradients to the matrix; the last row carries the
projective part. */
INLINE void project_block(
    const float *d, const float *gx, const float *gy, const float *gz, const float *m, const float *xs, const float *ys,
    const float *zs, int count, double *out) {
    float a0 = 0, a1 = 0, a2 = 0, a3 = 0, b0 = 0, b1 = 0, b2 = 0, b3 = 0, c0 = 0, c1 = 0, c2 = 0, c3 = 0, e0 = 0, e1 = 0, e2 = 0, e3 = 0;
    for (int n = 0; n < count; n++) {
        const float x = xs[n], y = ys[n], z = zs[n];
        const float h = 1.0f / (m[12] * x + m[13] * y + m[14] * z + m[15]);
        const float u = m[0] * x + m[1] * y + m[2] * z + m[3];
        const float v = m[4] * x + m[5] * y + m[6] * z + m[7];
        const float w = m[8] * x + m[9] * y + m[10] * z + m[11];
        const float g0 = d[n] * gx[n] * h, g1 = d[n] * gy[n] * h, g2 = d[n] * gz[n] * h;
        const float g3 = -(g0 * u + g1 * v + g2 * w) * h;
        a0 += g0 * x, a1 += g0 * y, a2 += g0 * z, a3 += g0;
        b0 += g1 * x, b1 += g1 * y, b2 += g1 * z, b3 += g1;
        c0 += g2 * x, c1 += g2 * y, c2 += g2 * z, c3 += g2;
        e0 += g3 * x, e1 += g3 * y, e2 += g3 * z, e3 += g3;
    }
    const float sums[16] = {a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, e0, e1, e2, e3};
    for (int k = 0; k < 16; k++) out[k] += sums[k];
}

#endif
