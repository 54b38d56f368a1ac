/* How poses move and what climbers make of what they find: see medmi/registration/motion.py, quasi_newton_cpu.py and averaging.py. */

#include <string.h>

#include "loops.h"

/* A 4x4 matrix has no more directions. */
#define MOST_PARAMETERS 16
/* Norm under which the Taylor polynomial of this degree is exact to rounding: 0.5^15 / 15! is 2e-17. */
#define REACH 0.5
#define DEGREE 14
/* Cosine between a step and the change of slope along it from which their curvature is safely positive. */
#define CURVATURE 1e-8
#define SHRINK 0.35
/* Share of the first step under which a step is short. */
#define SHORT 0.01
#define TINY 1e-30

static double dot(const double *a, const double *b, int64_t size) {
    double total = 0.0;
    for (int64_t k = 0; k < size; k++) total += a[k] * b[k];
    return total;
}

static void multiply(const double *matrix, const double *vector, int64_t size, double *out) {
    for (int64_t i = 0; i < size; i++) out[i] = dot(matrix + i * size, vector, size);
}

static void product(const double *a, const double *b, double *out) {
    double found[16];
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            found[4 * i + j] = a[4 * i] * b[j] + a[4 * i + 1] * b[4 + j] + a[4 * i + 2] * b[8 + j] + a[4 * i + 3] * b[12 + j];
    memcpy(out, found, sizeof found);
}

/* P exp(sum_i s_i G_i) */
static void advance_pose(const double *pose, const double *step, const double *basis, int64_t parameters, double *out) {
    double motion[16] = {0}, power[16], size = 0.0;
    int halvings = 0;
    for (int64_t t = 0; t < parameters; t++)
        for (int k = 0; k < 16; k++) motion[k] += step[t] * basis[16 * t + k];
    for (int k = 0; k < 16; k++) size += fabs(motion[k]);
    /* A motion that is not finite makes a pose that is not. */
    while (REACH < size && size < INFINITY) size /= 2.0, halvings++;
    for (int k = 0; k < 16; k++) motion[k] = ldexp(motion[k], -halvings), power[k] = k % 5 == 0;
    for (int degree = DEGREE; degree > 0; degree--) {
        product(motion, power, power);
        for (int k = 0; k < 16; k++) power[k] = (k % 5 == 0) + power[k] / degree;
    }
    for (int k = 0; k < halvings; k++) product(power, power, power);
    product(pose, power, out);
}

void advance(const Argument *a) {
    const double *poses = a[0].data, *steps = a[1].data, *basis = a[2].data;
    const int64_t parameters = a[2].shape[0];
    double *out = a[3].data;
    for (int64_t b = 0; b < a[0].shape[0]; b++) advance_pose(poses + 16 * b, steps + b * parameters, basis, parameters, out + 16 * b);
}

/* Laplace's expansion by the minors of the upper and lower halves. */
void determinants(const Argument *a) {
    static const int columns[6][4] = {{0, 1, 2, 3}, {0, 2, 1, 3}, {0, 3, 1, 2}, {1, 2, 0, 3}, {1, 3, 0, 2}, {2, 3, 0, 1}};
    static const double signs[6] = {1, -1, 1, 1, -1, 1};
    const double *m = a[0].data;
    double *out = a[1].data;
    for (int64_t b = 0; b < a[0].shape[0]; b++, m += 16) {
        double total = 0.0;
        for (int k = 0; k < 6; k++) {
            const int i = columns[k][0], j = columns[k][1], p = columns[k][2], q = columns[k][3];
            total += signs[k] * (m[i] * m[4 + j] - m[j] * m[4 + i]) * (m[8 + p] * m[12 + q] - m[8 + q] * m[12 + p]);
        }
        out[b] = total;
    }
}

/* dS/ds at s = 0 of P exp(sum_i s_i G_i) from dS/dP */
static void slope_of(const double *gradient, const double *pose, const double *basis, int64_t parameters, double *out) {
    for (int64_t t = 0; t < parameters; t++) {
        double moved[16];
        product(pose, basis + 16 * t, moved);
        out[t] = dot(gradient, moved, 16);
    }
}

void slopes(const Argument *a) {
    const double *gradients = a[0].data, *poses = a[1].data, *basis = a[2].data;
    const int64_t parameters = a[2].shape[0];
    double *out = a[3].data;
    for (int64_t b = 0; b < a[1].shape[0]; b++) slope_of(gradients + 16 * b, poses + 16 * b, basis, parameters, out + b * parameters);
}

static void steepest(double *inverse, const double *slope, int64_t size, double first_step) {
    const double scale = first_step / fmax(sqrt(dot(slope, slope, size)), TINY);
    memset(inverse, 0, (size_t)(size * size) * sizeof(double));
    for (int64_t i = 0; i < size; i++) inverse[i * size + i] = scale;
}

void set_back(const Argument *a) {
    double *inverses = a[0].data;
    const double *slope = a[1].data;
    const int64_t size = a[1].shape[1];
    for (int64_t b = 0; b < a[1].shape[0]; b++) steepest(inverses + b * size * size, slope + b * size, size, a[2].real);
}

void propose(const Argument *a) {
    const int64_t *awake = a[0].data, size = a[5].shape[0];
    const double *poses = a[1].data, *gradients = a[2].data, *lengths = a[4].data, *basis = a[5].data, first_step = a[6].real;
    double *inverses = a[3].data, *here = a[7].data, *steps = a[8].data, *tried = a[9].data;
    for (int64_t k = 0; k < a[0].size; k++, here += size, steps += size, tried += 16) {
        const int64_t b = awake[k];
        double *inverse = inverses + b * size * size;
        slope_of(gradients + 16 * b, poses + 16 * b, basis, size, here);
        multiply(inverse, here, size, steps);
        if (dot(steps, here, size) <= 0.0) {
            steepest(inverse, here, size, first_step);
            multiply(inverse, here, size, steps);
        }
        const double share = lengths[b] * fmin(1.0, 2.0 * first_step / fmax(sqrt(dot(steps, steps, size)), TINY));
        for (int64_t t = 0; t < size; t++) steps[t] *= share;
        advance_pose(poses + 16 * b, steps, basis, size, tried);
    }
}

/* BFGS update with a step s and the change y of the descending gradient; skipped where s.y is not safely positive. */
static void learn(double *inverse, const double *step, const double *change, int64_t size) {
    const double along = dot(step, change, size);
    double bent[MOST_PARAMETERS];
    if (!(along > CURVATURE * sqrt(dot(step, step, size)) * sqrt(dot(change, change, size)))) return;
    multiply(inverse, change, size, bent);
    const double scale = (1.0 + dot(change, bent, size) / along) / along;
    for (int64_t i = 0; i < size; i++)
        for (int64_t j = 0; j < size; j++)
            inverse[i * size + j] += scale * step[i] * step[j] - (bent[i] * step[j] + step[i] * bent[j]) / along;
}

void update(const Argument *a) { learn(a[0].data, a[1].data, a[2].data, a[1].size); }

void settle(const Argument *a) {
    const int64_t *awake = a[0].data, size = a[2].shape[1];
    const uint8_t *better = a[1].data;
    const double *steps = a[2].data, *here = a[3].data, *there = a[4].data, first_step = a[5].real;
    double *inverses = a[6].data, *lengths = a[7].data, *moved = a[8].data, change[MOST_PARAMETERS];
    uint8_t *resting = a[9].data;
    for (int64_t k = 0; k < a[0].size; k++, steps += size, here += size, there += size) {
        const int64_t b = awake[k];
        for (int64_t t = 0; t < size; t++) change[t] = here[t] - there[t];
        learn(inverses + b * size * size, steps, change, size);
        lengths[b] = better[k] ? 1.0 : lengths[b] * SHRINK;
        const double length = sqrt(dot(steps, steps, size));
        resting[b] = moved[b] < SHORT * first_step && length < SHORT * first_step;
        moved[b] = length;
    }
}

/* Two poses on opposite sides of where the steps have led. */
void place_pair(const Argument *a) {
    const double *origin = a[0].data, *at = a[1].data, *offset = a[2].data, *basis = a[3].data;
    const int64_t size = a[3].shape[0];
    double *poses = a[4].data, step[MOST_PARAMETERS];
    for (int side = 0; side < 2; side++) {
        for (int64_t t = 0; t < size; t++) step[t] = side ? at[t] - offset[t] : at[t] + offset[t];
        advance_pose(origin, step, basis, size, poses + 16 * side);
    }
}

/* Move by the mean of both gradients, as far as they are finite, through the inverse Hessian. */
void climb(const Argument *a) {
    const double *gradients = a[0].data, *poses = a[1].data, *basis = a[2].data, *inverse = a[3].data, radius = a[4].real, gain = a[5].real;
    const int64_t size = a[2].shape[0];
    double *at = a[6].data, mean[MOST_PARAMETERS] = {0}, slope[MOST_PARAMETERS], step[MOST_PARAMETERS];
    for (int side = 0; side < 2; side++) {
        slope_of(gradients + 16 * side, poses + 16 * side, basis, size, slope);
        for (int64_t t = 0; t < size; t++) mean[t] += isfinite(slope[t]) ? slope[t] / 2.0 : 0.0;
    }
    multiply(inverse, mean, size, step);
    const double share = gain * fmin(1.0, radius / fmax(sqrt(dot(step, step, size)), TINY));
    for (int64_t t = 0; t < size; t++) at[t] += share * step[t];
}
