/* The loops of moments.c for one precision: REAL is its type, NAMED(loop) the name of a loop in it. */

/* Where a pair of voxels falls: cell i of x and j of y, fractions f and g on from there. */
INLINE void NAMED(find)(REAL place_x, REAL place_y, int32_t cells, int32_t *cell, REAL *f, REAL *g) {
    const REAL last = (REAL)cells;
    REAL u = place_x > 0 ? place_x : 0, v = place_y > 0 ? place_y : 0;
    u = u < last ? u : last, v = v < last ? v : last;
    const int32_t i = at_most((int32_t)u, cells - 1), j = at_most((int32_t)v, cells - 1);
    *cell = i * cells + j, *f = u - (REAL)i, *g = v - (REAL)j;
}

/* `axes` are low and scale of x, then of y. */
VECTOR void NAMED(add_moments)(const Argument *a) {
    const REAL *x = a[0].data, *y = a[1].data, *axes = a[2].data;
    const REAL low_x = axes[0], scale_x = axes[1], low_y = axes[2], scale_y = axes[3];
    const int32_t cells = (int32_t)a[3].whole;
    Moments *table = a[4].data;
    int32_t cell[BLOCK];
    REAL moments[BLOCK][4];
    for (int64_t start = 0; start < a[0].size; start += BLOCK) {
        const int size = (int)smaller(BLOCK, a[0].size - start);
        for (int n = 0; n < size; n++) {
            REAL f, g;
            NAMED(find)((x[start + n] - low_x) * scale_x, (y[start + n] - low_y) * scale_y, cells, cell + n, &f, &g);
            moments[n][0] = 1, moments[n][1] = g, moments[n][2] = f, moments[n][3] = f * g;
        }
        for (int n = 0; n < size; n++)
            for (int k = 0; k < 4; k++) table[cell[n]].of[k] += moments[n][k];
    }
}

VECTOR void NAMED(read_slopes)(const Argument *a) {
    const REAL *x = a[0].data, *y = a[1].data, *axes = a[2].data, *table = a[5].data;
    const REAL low_x = axes[0], scale_x = axes[1], low_y = axes[2], scale_y = axes[3];
    const int32_t cells = (int32_t)a[3].whole;
    const int64_t clipped = a[4].whole;
    REAL *out = a[6].data, along[BLOCK], slope[BLOCK], change[BLOCK];
    int32_t cell[BLOCK];
    for (int64_t start = 0; start < a[0].size; start += BLOCK) {
        const int size = (int)smaller(BLOCK, a[0].size - start);
        for (int n = 0; n < size; n++) {
            REAL f;
            NAMED(find)((x[start + n] - low_x) * scale_x, (y[start + n] - low_y) * scale_y, cells, cell + n, &f, along + n);
        }
        for (int n = 0; n < size; n++) slope[n] = table[2 * cell[n]], change[n] = table[2 * cell[n] + 1];
        for (int n = 0; n < size; n++) {
            const REAL place = (x[start + n] - low_x) * scale_x;
            const int seen = (clipped == 0) | ((place >= 0) & (place <= (REAL)cells));
            out[start + n] = seen ? slope[n] + along[n] * change[n] : 0;
        }
    }
}
