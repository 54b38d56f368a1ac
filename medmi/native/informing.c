/* What the joint histograms of the points at each pose tell, where nothing else is asked: see medmi/registration/histogram_cpu.py. */

#include "histogram.h"
#include "keeping.h"
#include "sharing.h"

/* Poses that are near each other look at the same voxels. So the poses of a group take turns, each looking at so many points, while the voxels
around those are in a near cache; and what is kept of them goes to the histograms from there. No thread waits for want of poses. */
INLINE int64_t group_of(const Argument *a) {
    const int64_t each = a[3].shape[0] / a[15].whole;
    return each < 1 ? 1 : smaller(each, a[9].shape[1]);
}

/* Of one pose's cells the sum over channels of what their tables tell; `table` holds that, its slopes and its margins. */
INLINE double tell(const Cell *cells, int64_t channels, int64_t bins, int64_t normalised, double *table) {
    const int64_t entries = bins * bins;
    double value = 0.0;
    for (int64_t c = 0; c < channels; c++) {
        fold_cells(cells + c * cells_for(bins), bins, table);
        normalise(table, entries);
        value += inform(table, bins, normalised, table + entries, table + 2 * entries);
    }
    return value;
}

VECTOR static void inform_group(const Argument *a, int64_t number, int64_t worker) {
    const Volume volume = volume_of(a);
    const double *matrices = a[3].data;
    const float *points = a[4].data, *positions = a[5].data, *low = a[6].data, *scale = a[7].data;
    const int64_t poses = a[3].shape[0], count = a[4].shape[1], channels = volume.channels, bins = a[10].shape[2], turn = a[11].shape[2];
    const int64_t group = group_of(a), first = number * group, some = smaller(group, poses - first), each = channels * cells_for(bins);
    /* Every worker has its own room. */
    Cell *cells = (Cell *)a[9].data + worker * a[9].shape[1] * each;
    float *values = (float *)a[11].data + worker * channels * turn, *weights = (float *)a[12].data + worker * turn, matrix[16];
    uint32_t *places = (uint32_t *)a[13].data + worker * turn;
    double *found = (double *)a[14].data + 3 * first;
    for (int64_t k = 0; k < some * channels; k++) empty_cells(bins, cells + k * cells_for(bins));
    for (int64_t k = 0; k < 3 * some; k++) found[k] = 0.0;
    for (int64_t start = 0; start < count; start += turn)
        for (int64_t k = 0; k < some; k++) {
            Row row = {values, NULL, weights, NULL, places, NULL, 1, turn, 0, 0};
            single(matrices + 16 * (first + k), matrix);
            keep_points(&volume, matrix, points, count, start, smaller(count, start + turn), 0, &row, found + 3 * k);
            for (int64_t c = 0; c < channels; c++) {
                const Window window = {low[c], scale[c], (int32_t)bins};
                add_points(
                    values + c * turn, weights, places, positions + c * count, window, row.kept, cells + k * each + c * cells_for(bins));
            }
        }
    for (int64_t k = 0; k < some; k++)
        found[3 * k + 2] = tell(cells + k * each, channels, bins, a[8].whole, (double *)a[10].data + worker * a[10].shape[1] * bins);
}

void inform_poses(const Argument *a) {
    const int64_t poses = a[3].shape[0], group = group_of(a);
    share_out(inform_group, a, (poses + group - 1) / group, a[15].whole);
}
