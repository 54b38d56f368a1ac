/* The joint histogram of points, and what it tells: see medmi/registration/histogram_cpu.py. */

#ifndef MEDMI_HISTOGRAM_H
#define MEDMI_HISTOGRAM_H

#include <string.h>

#include "loops.h"

/* Probabilities under this are none. */
#define TINY 1e-12

/* Where a block of points falls: the entry of the table behind each, as rows of `bins`, and the fractions on from there. */
typedef struct {
    uint32_t cell[BLOCK];
    float f[BLOCK], g[BLOCK], position[BLOCK];
} Binned;

/* A window's place and width: (value - low) * scale is the moving bin position. */
typedef struct {
    float low, scale;
    int32_t bins;
} Window;

INLINE void bin(const float *values, const uint32_t *places, const float *positions, Window window, int count, Binned *out) {
    const int32_t last = window.bins - 2;
    const float top = (float)(window.bins - 1);
    /* Of points that are neighbours, the positions themselves. */
    const float *position = positions + places[0];
    if (places[count - 1] - places[0] != (uint32_t)(count - 1)) {
        for (int n = 0; n < count; n++) out->position[n] = positions[places[n]];
        position = out->position;
    }
    for (int n = 0; n < count; n++) {
        const float f = position[n], g = between((values[n] - window.low) * window.scale, 0.0f, top);
        const int32_t i = at_most((int32_t)f, last), j = at_most((int32_t)g, last);
        out->f[n] = f - (float)i, out->g[n] = g - (float)j;
        out->cell[n] = (uint32_t)(i * window.bins + j);
    }
}

/* What the points of a cell give to the four entries around it: here, to the right, below, across. Held together, so that one point's sums
do not wait for the last one's, as those of entries that several cells share would. */
typedef struct {
    double to[4];
} Cell;

/* As many as a table has, and those of one row and one more before them, where no point falls, no more than behind the last bin of a row. */
INLINE int64_t cells_for(int64_t bins) { return bins * bins + bins + 1; }

INLINE void empty_cells(int64_t bins, Cell *room) { memset(room, 0, (size_t)cells_for(bins) * sizeof(Cell)); }

/* Add what points give to the cells in `room`. */
INLINE void add_points(
    const float *values, const float *weights, const uint32_t *places, const float *positions, Window window, int64_t count, Cell *room) {
    Cell *cells = room + window.bins + 1;
    float share[BLOCK][4];
    Binned at;
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int size = (int)smaller(BLOCK, count - start);
        const float *weight = weights + start;
        bin(values + start, places + start, positions, window, size, &at);
        for (int n = 0; n < size; n++) {
            const float f = at.f[n] * weight[n], g = at.g[n], rest = weight[n] - f, right = rest * g, across = f * g;
            share[n][0] = rest - right, share[n][1] = right, share[n][2] = f - across, share[n][3] = across;
        }
        for (int n = 0; n < size; n++) {
            Cell *cell = cells + at.cell[n];
            for (int k = 0; k < 4; k++) cell->to[k] += share[n][k];
        }
    }
}

/* The table of bins x bins, rows fixed, columns moving, that the cells make. */
INLINE void fold_cells(const Cell *room, int64_t bins, double *table) {
    const Cell *cells = room + bins + 1;
    for (int64_t k = 0; k < bins * bins; k++)
        table[k] = cells[k].to[0] + cells[k - 1].to[1] + cells[k - bins].to[2] + cells[k - bins - 1].to[3];
}

/* Make a table sum to one; what it summed to. */
INLINE double normalise(double *table, int64_t entries) {
    double mass = 0.0;
    for (int64_t k = 0; k < entries; k++) mass += table[k];
    mass = fmax(mass, TINY);
    for (int64_t k = 0; k < entries; k++) table[k] /= mass;
    return mass;
}

/* The natural logarithm of a positive, finite number to 2e-16 of itself or of 1, whole vectors at once: x = m 2^e with m from sqrt(1/2) to
sqrt(2), and log m = 2 atanh((m - 1) / (m + 1)) (Abramowitz & Stegun 1964, Eq. 4.1.27). */
INLINE double logarithm(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    /* Counted from sqrt(1/2), whose bits these are. */
    const uint64_t above = bits - 0x3fe6a09e667f3bcdu, mantissa = (above & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu;
    const double exponent = (double)(int32_t)((int64_t)above >> 52);
    double m;
    memcpy(&m, &mantissa, sizeof m);
    const double s = (m - 1.0) / (m + 1.0), q = s * s;
    double series = 1.0 / 21;
    series = series * q + 1.0 / 19, series = series * q + 1.0 / 17, series = series * q + 1.0 / 15, series = series * q + 1.0 / 13;
    series = series * q + 1.0 / 11, series = series * q + 1.0 / 9, series = series * q + 1.0 / 7, series = series * q + 1.0 / 5;
    series = series * q + 1.0 / 3;
    return exponent * 0.6931471805599453 + 2.0 * (s + s * q * series);
}

/* What a measure makes of sum p log p, of that over rows and over columns; the factors of log p and of the margins' logs in its derivative
by p, up to a constant. */
typedef struct {
    double value, by_joint, by_margins;
} Measured;

INLINE Measured measure(int64_t normalised, double joint, double rows, double columns) {
    if (!normalised) return (Measured){joint - rows - columns, 1.0, 1.0};
    const double entropy = fmax(-joint, TINY), value = -(rows + columns) / entropy;
    return (Measured){value, value / entropy, 1.0 / entropy};
}

/* Of joint probabilities p (bins, bins) the measure, and its derivative by each; `margins` holds 2 bins. */
INLINE double inform(const double *p, int64_t bins, int64_t normalised, double *slope, double *margins) {
    double *rows = margins, *columns = margins + bins, joint = 0.0, of_rows = 0.0, of_columns = 0.0;
    for (int64_t j = 0; j < bins; j++) columns[j] = 0.0;
    for (int64_t i = 0; i < bins; i++) {
        double row = 0.0;
        for (int64_t j = 0; j < bins; j++) row += p[i * bins + j], columns[j] += p[i * bins + j];
        rows[i] = row;
    }
    for (int64_t k = 0; k < bins * bins; k++) {
        slope[k] = logarithm(p[k] > TINY ? p[k] : TINY);
        joint += p[k] * slope[k];
    }
    for (int64_t i = 0; i < bins; i++) {
        const double row = logarithm(fmax(rows[i], TINY)), column = logarithm(fmax(columns[i], TINY));
        of_rows += rows[i] * row, of_columns += columns[i] * column;
        rows[i] = row, columns[i] = column;
    }
    const Measured found = measure(normalised, joint, of_rows, of_columns);
    for (int64_t i = 0; i < bins; i++)
        for (int64_t j = 0; j < bins; j++)
            slope[i * bins + j] = found.by_joint * slope[i * bins + j] - found.by_margins * (rows[i] + columns[j]);
    return found.value;
}

#endif
