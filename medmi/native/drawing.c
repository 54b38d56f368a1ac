/* Points drawn from an image: see medmi/registration/drawing_cpu.py. */

#include "sharing.h"

/* The golden ratio's, and how many chances a strip has: one for its height, three for the place within the voxel. */
#define WEYL 0x9E3779B9u
#define DRAWS 4u

/* A number in [0, 1): the finaliser of MurmurHash3 (Appleby 2011) of a Weyl sequence. */
INLINE float chance_of(uint32_t number, uint32_t stream) {
    uint32_t h = number * WEYL + stream;
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return (float)((h ^ (h >> 16)) >> 8) * 0x1p-24f;
}

VECTOR void chance(const Argument *a) {
    const uint32_t *numbers = a[0].data, stream = (uint32_t)a[1].whole;
    float *out = a[2].data;
    for (int64_t n = 0; n < a[0].size; n++) out[n] = chance_of(numbers[n], stream);
}

/* The first of K neighbours goes to one set, then to another, so that no set keeps step with the rows of the image. */
INLINE int64_t set_of(int64_t strip, int64_t sets) { return ((strip / sets * 2654435761 >> 7) + strip) % sets; }

void pick(const Argument *a) {
    const double *cumulative = a[0].data;
    const int64_t *spans = a[1].data, strips = a[2].whole;
    const uint32_t stream = (uint32_t)a[3].whole;
    uint32_t *voxels = a[4].data, *numbers = a[5].data;
    int64_t *counts = a[6].data;
    const int64_t whole = a[0].size, rows = a[1].shape[0], length = whole / rows, sets = a[4].shape[0], room = a[4].shape[1];
    const double height = cumulative[whole - 1] / (double)strips;
    for (int64_t k = 0; k < sets; k++) counts[k] = 0;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t begin = row * length + spans[2 * row], end = row * length + spans[2 * row + 1];
        if (begin == end) continue;
        const double low = begin > 0 ? cumulative[begin - 1] : 0.0, high = cumulative[end - 1];
        const int64_t stop = smaller((int64_t)(high / height) + 1, strips);
        int64_t at = begin, n = (int64_t)(low / height), k = set_of(n, sets), left = sets - n % sets;
        while (n < stop) {
            const double place = ((double)n + (double)chance_of((uint32_t)n * DRAWS, stream)) * height;
            if (low <= place && (place < high || end == whole) && counts[k] < room) {
                while (at < end - 1 && cumulative[at] <= place) at++;
                voxels[k * room + counts[k]] = (uint32_t)at, numbers[k * room + counts[k]] = (uint32_t)n;
                counts[k]++;
            }
            n++, k = k + 1 < sets ? k + 1 : 0;
            if (--left == 0) k = set_of(n, sets), left = sets;
        }
    }
}

void share_within(const Argument *a) {
    const double *cumulative = a[0].data;
    const int64_t *spans = a[1].data, rows = a[1].shape[0], length = a[0].size / rows;
    double seen = 0.0;
    for (int64_t row = 0; row < rows; row++) {
        const int64_t begin = row * length + spans[2 * row], end = row * length + spans[2 * row + 1];
        if (begin < end) seen += cumulative[end - 1] - (begin > 0 ? cumulative[begin - 1] : 0.0);
    }
    *(double *)a[2].data = seen / cumulative[a[0].size - 1];
}

VECTOR void scatter(const Argument *a) {
    const uint32_t *voxels = a[0].data, *numbers = a[1].data, stream = (uint32_t)a[2].whole;
    const int64_t nx = a[3].whole, ny = a[4].whole, nz = a[5].whole, count = a[0].size;
    const double by_row = 1.0 / (double)nz, by_slice = 1.0 / (double)ny;
    const float last[3] = {(float)(nx - 1), (float)(ny - 1), (float)(nz - 1)};
    float *x = a[6].data, *y = x + count, *z = y + count;
    for (int64_t n = 0; n < count; n++) {
        /* Half a voxel keeps the rounded product on the right side. */
        const int32_t row = (int32_t)(((double)voxels[n] + 0.5) * by_row), i = (int32_t)(((double)row + 0.5) * by_slice);
        const uint32_t draw = numbers[n] * DRAWS;
        x[n] = between((float)i + chance_of(draw + 1, stream) - 0.5f, 0.0f, last[0]);
        y[n] = between((float)(row - i * (int32_t)ny) + chance_of(draw + 2, stream) - 0.5f, 0.0f, last[1]);
        z[n] = between((float)((int32_t)voxels[n] - row * (int32_t)nz) + chance_of(draw + 3, stream) - 0.5f, 0.0f, last[2]);
    }
}

VECTOR void interpolate(const Argument *a) {
    const float *volume = a[0].data, *index = a[1].data;
    float *values = a[2].data;
    const int64_t channels = a[0].shape[0], nx = a[0].shape[1], ny = a[0].shape[2], nz = a[0].shape[3], count = a[1].shape[1];
    const int64_t below = nx > 1 ? ny * nz : 0, beside = ny > 1 ? nz : 0, behind = nz > 1 ? 1 : 0;
    const int32_t top_u = nx > 2 ? (int32_t)nx - 2 : 0, top_v = ny > 2 ? (int32_t)ny - 2 : 0, top_w = nz > 2 ? (int32_t)nz - 2 : 0;
    for (int64_t n = 0; n < count; n++) {
        const float x = index[n], y = index[count + n], z = index[2 * count + n];
        const int32_t i = at_most((int32_t)x, top_u), j = at_most((int32_t)y, top_v), k = at_most((int32_t)z, top_w);
        const float u = x - (float)i, v = y - (float)j, w = z - (float)k;
        for (int64_t c = 0; c < channels; c++) {
            const float *near = volume + c * nx * ny * nz + (i * ny + j) * nz + k, *far = near + below;
            const float v00 = near[0] + w * (near[behind] - near[0]), v01 = near[beside] + w * (near[beside + behind] - near[beside]);
            const float v10 = far[0] + w * (far[behind] - far[0]), v11 = far[beside] + w * (far[beside + behind] - far[beside]);
            const float v0 = v00 + v * (v01 - v00), v1 = v10 + v * (v11 - v10);
            values[c * count + n] = v0 + u * (v1 - v0);
        }
    }
}

VECTOR static void steepen_slice(const Argument *a, int64_t i, int64_t worker) {
    (void)worker;
    const float *channel = a[0].data;
    float *steepness = a[1].data;
    const int64_t nx = a[0].shape[0], ny = a[0].shape[1], nz = a[0].shape[2];
    for (int64_t j = 0; j < ny; j++) {
        const int64_t at = (i * ny + j) * nz;
        const float *restrict here = channel + at;
        const float *restrict above = i > 0 ? here - ny * nz : here, *restrict below = i < nx - 1 ? here + ny * nz : here;
        const float *restrict left = j > 0 ? here - nz : here, *restrict right = j < ny - 1 ? here + nz : here;
        float *restrict out = steepness + at;
        for (int64_t k = 0; k < nz; k++)
            out[k] += fabsf(above[k] - here[k]) + fabsf(below[k] - here[k]) + fabsf(left[k] - here[k]) + fabsf(right[k] - here[k]);
        for (int64_t k = 0; k < nz - 1; k++) out[k] += fabsf(here[k + 1] - here[k]);
        for (int64_t k = 1; k < nz; k++) out[k] += fabsf(here[k] - here[k - 1]);
    }
}

void steepen(const Argument *a) { share_out(steepen_slice, a, a[0].shape[0], a[2].whole); }

typedef struct {
    double first, last;
} Seen;

/* The part of a stretch where start + slope k is not negative; of one that has no such part, an empty one within it. */
INLINE Seen cut(double start, double slope, Seen stretch) {
    if (slope == 0.0) {
        if (start < 0.0) stretch.last = stretch.first - 1.0;
        return stretch;
    }
    const double at = -start / slope;
    if (slope > 0.0)
        stretch.first = fmin(fmax(at, stretch.first), stretch.last + 1.0);
    else
        stretch.last = fmax(fmin(at, stretch.last), stretch.first - 1.0);
    return stretch;
}

void see(const Argument *a) {
    const double *matrix = a[0].data, *low = a[1].data, *high = a[2].data;
    int64_t *spans = a[3].data;
    const int64_t nx = a[3].shape[0], ny = a[3].shape[1], nz = a[4].whole;
    for (int64_t i = 0; i < nx; i++)
        for (int64_t j = 0; j < ny; j++) {
            Seen seen = {0.0, (double)(nz - 1)};
            double here[4];
            for (int r = 0; r < 4; r++) here[r] = matrix[4 * r] * (double)i + matrix[4 * r + 1] * (double)j + matrix[4 * r + 3];
            for (int axis = 0; axis < 3; axis++) {
                const double slope = matrix[4 * axis + 2], depth = matrix[14];
                seen = cut(here[axis] - low[axis] * here[3], slope - low[axis] * depth, seen);
                seen = cut(high[axis] * here[3] - here[axis], high[axis] * depth - slope, seen);
            }
            int64_t *span = spans + 2 * (i * ny + j);
            span[0] = (int64_t)ceil(seen.first);
            span[1] = (int64_t)floor(seen.last) + 1;
            if (span[1] < span[0]) span[1] = span[0];
        }
}

VECTOR static void sum_capped(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    const float *steepness = a[0].data;
    const double cap = a[1].real;
    const int64_t end = smaller((number + 1) * STRETCH, a[0].size);
    double total = 0.0;
    for (int64_t n = number * STRETCH; n < end; n++) total += steepness[n] < cap ? (double)steepness[n] : cap;
    ((double *)a[5].data)[number] = total;
}

/* Within each stretch from nothing on. */
VECTOR static void sum_chances(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    const float *steepness = a[0].data;
    const uint8_t *mask = a[3].data;
    double *cumulative = a[4].data, *sums = a[5].data, total = 0.0;
    const int64_t masked = a[3].size, end = smaller((number + 1) * STRETCH, a[0].size), stretches = stretches_of(a[0].size);
    const double cap = a[1].real, by_steepness = sums[stretches], evenly = sums[stretches + 1];
    for (int64_t n = number * STRETCH; n < end; n++) {
        total += (steepness[n] < cap ? (double)steepness[n] : cap) * by_steepness + (!masked || mask[n] ? evenly : 0.0);
        cumulative[n] = total;
    }
    sums[number] = total;
}

VECTOR static void add_before(const Argument *a, int64_t number, int64_t worker) {
    (void)worker;
    double *cumulative = a[4].data;
    const double before = ((const double *)a[5].data)[number];
    const int64_t end = smaller((number + 1) * STRETCH, a[0].size);
    for (int64_t n = number * STRETCH; n < end; n++) cumulative[n] += before;
}

/* `sums` has room for one of each stretch, and for what a step and a voxel are worth. */
void accumulate(const Argument *a) {
    const double foreground = a[2].real;
    const uint8_t *mask = a[3].data;
    double *sums = a[5].data, steep = 0.0, before = 0.0;
    const int64_t count = a[0].size, masked = a[3].size, stretches = stretches_of(count), threads = a[6].whole;
    int64_t kept = masked ? 0 : count;
    for (int64_t n = 0; n < masked; n++) kept += mask[n];
    share_out(sum_capped, a, stretches, threads);
    for (int64_t k = 0; k < stretches; k++) steep += sums[k];
    sums[stretches] = steep > 0.0 ? foreground / steep : 0.0;
    sums[stretches + 1] = (steep > 0.0 ? 1.0 - foreground : 1.0) / (double)kept;
    share_out(sum_chances, a, stretches, threads);
    for (int64_t k = 0; k < stretches; k++) {
        const double own = sums[k];
        sums[k] = before, before += own;
    }
    share_out(add_before, a, stretches, threads);
}
