/* The joint histogram of kept points and how a function of it changes with each: see medmi/registration/histogram_cpu.py. */

#include <string.h>

#include "sharing.h"

/* Probabilities under this are none. */
#define TINY 1e-12

/* Heights of a curve at values; what is beyond its ends, or no number, is at one of them. */
VECTOR void compand(const Argument *a) {
    const float *values = a[0].data, *curve = a[3].data;
    const float low = (float)a[1].real, steps = (float)(a[3].size - 1), scale = steps / ((float)a[2].real - low);
    const int32_t last = (int32_t)a[3].size - 2;
    float *heights = a[4].data;
    for (int64_t n = 0; n < a[0].size; n++) {
        const float step = between((values[n] - low) * scale, 0.0f, steps);
        const int32_t k = at_most((int32_t)step, last);
        heights[n] = curve[k] + (step - (float)k) * (curve[k + 1] - curve[k]);
    }
}

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
    for (int n = 0; n < count; n++) out->position[n] = positions[places[n]];
    for (int n = 0; n < count; n++) {
        const float f = out->position[n], g = between((values[n] - window.low) * window.scale, 0.0f, top);
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

/* A table of bins x bins of the points' shares, rows fixed, columns moving; `room` holds as many cells, and those of one row and one more
before them, where no point falls, no more than behind the last bin of a row. */
INLINE void fill_table(
    const float *values, const float *weights, const uint32_t *places, const float *positions, Window window, int64_t count, Cell *room,
    double *table) {
    const int64_t bins = window.bins;
    Cell *cells = room + bins + 1;
    float share[BLOCK][4];
    Binned at;
    memset(room, 0, (size_t)(bins * bins + bins + 1) * sizeof(Cell));
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
    for (int64_t k = 0; k < bins * bins; k++)
        table[k] = cells[k].to[0] + cells[k - 1].to[1] + cells[k - bins].to[2] + cells[k - bins - 1].to[3];
}

VECTOR void histogram(const Argument *a) {
    const float *values = a[0].data, *weights = a[1].data, *positions = a[4].data, *low = a[5].data, *scale = a[6].data;
    const uint32_t *places = a[2].data;
    const int64_t *counts = a[3].data;
    Cell *cells = a[7].data;
    double *tables = a[8].data;
    const int64_t channels = a[0].shape[0], poses = a[0].shape[1], count = a[0].shape[2], fixed = a[4].shape[1], bins = a[8].shape[3];
    for (int64_t c = 0; c < channels; c++)
        for (int64_t b = 0; b < poses; b++) {
            const Window window = {low[c], scale[c], (int32_t)bins};
            const int64_t row = c * poses + b;
            fill_table(
                values + row * count, weights + b * count, places + b * count, positions + c * fixed, window, counts[b],
                cells, tables + row * bins * bins);
        }
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

VECTOR void inform_tables(const Argument *a) {
    const double *tables = a[0].data;
    double *values = a[2].data, *slopes = a[3].data, *margins = a[4].data;
    const int64_t bins = a[0].shape[1], entries = bins * bins;
    for (int64_t k = 0; k < a[0].shape[0]; k++)
        values[k] = inform(tables + k * entries, bins, a[1].whole, slopes + k * entries, margins);
}

/* Steps along a row of the table of slopes, and how they change to the next row. */
typedef struct {
    float step, change;
} Slope;

INLINE void look_up_values(
    const float *values, const float *weights, const Binned *at, const Slope *steps, Window window, int count, float *out) {
    const float top = (float)(window.bins - 1);
    Slope found[BLOCK];
    for (int n = 0; n < count; n++) found[n] = steps[at->cell[n]];
    for (int n = 0; n < count; n++) {
        const float position = (values[n] - window.low) * window.scale;
        const float slope = (found[n].step + at->f[n] * found[n].change) * window.scale * weights[n];
        out[n] = (position >= 0.0f) & (position <= top) ? slope : 0.0f; /* a clamped value changes nothing */
    }
}

/* Derivatives by the values of all points, and, added, by the weights of the edges. */
INLINE void look_up(
    const float *values, const float *weights, const uint32_t *places, const uint32_t *edges, const float *positions, Window window,
    int64_t count, int64_t edge_count, const float *table, Slope *steps, float *by_value, float *by_weight) {
    const int64_t bins = window.bins;
    Binned at;
    for (int64_t k = 0; k + bins + 1 < bins * bins; k++) {
        steps[k].step = table[k + 1] - table[k];
        steps[k].change = table[k + bins + 1] - table[k + bins] - steps[k].step;
    }
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int size = (int)smaller(BLOCK, count - start);
        bin(values + start, places + start, positions, window, size, &at);
        look_up_values(values + start, weights + start, &at, steps, window, size, by_value + start);
    }
    for (int64_t n = 0; n < edge_count; n++) {
        const uint32_t own = 0;
        bin(values + edges[n], &own, positions + places[edges[n]], window, 1, &at);
        const float *entry = table + at.cell[0], f = at.f[0], g = at.g[0];
        const float left = entry[0] + f * (entry[bins] - entry[0]), right = entry[1] + f * (entry[bins + 1] - entry[1]);
        by_weight[n] += left + g * (right - left);
    }
}

VECTOR static void inform_at(const Argument *a, int64_t b, int64_t worker) {
    const float *values = a[0].data, *weights = a[1].data, *positions = a[5].data, *low = a[6].data, *scale = a[7].data;
    const uint32_t *places = a[2].data, *edges = a[3].data;
    const int64_t *counts = a[4].data, normalised = a[8].whole;
    double *value = a[12].data;
    float *by_value = a[13].data, *by_weight = a[14].data;
    const int64_t channels = a[0].shape[0], poses = a[0].shape[1], count = a[0].shape[2], fixed = a[5].shape[1], bins = a[9].shape[2];
    const int64_t most_edges = a[3].shape[1], entries = bins * bins, asked = a[13].size;
    /* Every worker has its own room. */
    double *table = (double *)a[9].data + worker * a[9].shape[1] * bins, *slope = table + entries, *margins = slope + entries;
    Cell *cells = (Cell *)(margins + 2 * bins);
    float *slopes = (float *)a[10].data + worker * entries;
    Slope *steps = (Slope *)a[11].data + worker * entries;
    float *edge_slopes = asked ? by_weight + b * a[14].shape[1] : by_weight;
    value[b] = 0.0;
    for (int64_t n = 0; asked && n < counts[poses + b]; n++) edge_slopes[n] = 0.0f;
    for (int64_t c = 0; c < channels; c++) {
        const Window window = {low[c], scale[c], (int32_t)bins};
        const float *row = values + (c * poses + b) * count, *weight = weights + b * count, *position = positions + c * fixed;
        double mass = 0.0, mean = 0.0;
        fill_table(row, weight, places + b * count, position, window, counts[b], cells, table);
        for (int64_t k = 0; k < entries; k++) mass += table[k];
        mass = fmax(mass, TINY);
        for (int64_t k = 0; k < entries; k++) table[k] /= mass;
        value[b] += inform(table, bins, normalised, slope, margins);
        if (!asked) continue;
        /* Of tables that sum to one: what all points have in common is none of a single one's. */
        for (int64_t k = 0; k < entries; k++) mean += table[k] * slope[k];
        for (int64_t k = 0; k < entries; k++) slopes[k] = (float)((slope[k] - mean) / mass);
        look_up(
            row, weight, places + b * count, edges + b * most_edges, position, window, counts[b], counts[poses + b], slopes, steps,
            by_value + (c * poses + b) * count, edge_slopes);
    }
}

void inform_points(const Argument *a) { share_out(inform_at, a, a[0].shape[1], a[15].whole); }
