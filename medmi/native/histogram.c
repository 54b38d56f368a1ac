/* The joint histogram of kept points and how a function of it changes with each: see medmi/registration/histogram_cpu.py. */

#include "histogram.h"
#include "sharing.h"

VECTOR static void compand_stretch(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    const float *values = a[0].data, *curve = a[3].data;
    const float low = (float)a[1].real, steps = (float)(a[3].size - 1), scale = steps / ((float)a[2].real - low);
    const int32_t last = (int32_t)a[3].size - 2;
    const int64_t end = smaller((number + 1) * STRETCH, a[0].size);
    float *heights = a[4].data;
    for (int64_t n = number * STRETCH; n < end; n++) {
        const float step = between((values[n] - low) * scale, 0.0f, steps);
        const int32_t k = at_most((int32_t)step, last);
        heights[n] = curve[k] + (step - (float)k) * (curve[k + 1] - curve[k]);
    }
}

/* Heights of a curve at values; what is beyond its ends, or no number, is at one of them. */
void compand(const Argument *a) { share_out(compand_stretch, a, stretches_of(a[0].size), a[5].whole); }

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
            empty_cells(bins, cells);
            add_points(
                values + row * count, weights + b * count, places + b * count, positions + c * fixed, window, counts[b], cells);
            fold_cells(cells, bins, tables + row * bins * bins);
        }
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
        double mean = 0.0;
        empty_cells(bins, cells);
        add_points(row, weight, places + b * count, position, window, counts[b], cells);
        fold_cells(cells, bins, table);
        const double mass = normalise(table, entries);
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
