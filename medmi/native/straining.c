/* What poses pay for stretching images: see medmi/registration/stiffness.py. */

#include <string.h>

#include "loops.h"

#define MOST_DIMS 3
/* Each sweep squares what is left beside the diagonal, or nearly so; such a share of the diagonal is rounding. */
#define MOST_SWEEPS 12
#define ROUNDING 1e-17

/* Make element (i, j) of the symmetric `matrix` 0 by a turn within these two axes, which the columns of `axes` follow. */
static void turn_away(double matrix[MOST_DIMS][MOST_DIMS], double axes[MOST_DIMS][MOST_DIMS], int d, int i, int j) {
    const double beside = matrix[i][j];
    if (fabs(beside) <= ROUNDING * (matrix[i][i] + matrix[j][j])) return;
    const double ratio = (matrix[j][j] - matrix[i][i]) / (2.0 * beside);
    const double tangent = copysign(1.0, ratio) / (fabs(ratio) + hypot(1.0, ratio));
    const double cosine = 1.0 / hypot(1.0, tangent), sine = tangent * cosine;
    for (int k = 0; k < d; k++) {
        const double a = matrix[k][i], b = matrix[k][j];
        matrix[k][i] = cosine * a - sine * b, matrix[k][j] = sine * a + cosine * b;
    }
    for (int k = 0; k < d; k++) {
        const double a = matrix[i][k], b = matrix[j][k];
        matrix[i][k] = cosine * a - sine * b, matrix[j][k] = sine * a + cosine * b;
    }
    for (int k = 0; k < d; k++) {
        const double a = axes[k][i], b = axes[k][j];
        axes[k][i] = cosine * a - sine * b, axes[k][j] = sine * a + cosine * b;
    }
    matrix[i][j] = matrix[j][i] = 0.0;
}

/* Jacobi's method: turns `matrix` to its eigenvalues on the diagonal, and `axes` from the identity to the eigenvectors in its columns. */
static void diagonalise(double matrix[MOST_DIMS][MOST_DIMS], double axes[MOST_DIMS][MOST_DIMS], int d) {
    for (int sweep = 0; sweep < MOST_SWEEPS; sweep++)
        for (int i = 0; i < d; i++)
            for (int j = i + 1; j < d; j++) turn_away(matrix, axes, d, i, j);
}

static int finite_pose(const double *pose) {
    for (int k = 0; k < 16; k++)
        if (!isfinite(pose[k])) return 0;
    return 1;
}

/* E = log(A' A) / 2 and A^-T = A (A' A)^-1 of the linear part A of a pose. */
static void strain_of(const double *pose, int d, double strain[MOST_DIMS][MOST_DIMS], double inverse[MOST_DIMS][MOST_DIMS]) {
    double squares[MOST_DIMS][MOST_DIMS] = {{0}}, axes[MOST_DIMS][MOST_DIMS] = {{0}}, inner[MOST_DIMS][MOST_DIMS] = {{0}};
    for (int i = 0; i < d; i++) {
        axes[i][i] = 1.0;
        for (int j = 0; j < d; j++)
            for (int k = 0; k < d; k++) squares[i][j] += pose[4 * k + i] * pose[4 * k + j];
    }
    diagonalise(squares, axes, d);
    for (int k = 0; k < d; k++) {
        const double along = log(squares[k][k]) / 2.0;
        for (int i = 0; i < d; i++)
            for (int j = 0; j < d; j++) {
                const double pair = axes[i][k] * axes[j][k];
                strain[i][j] += along * pair, inner[i][j] += pair / squares[k][k];
            }
    }
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++)
            for (int k = 0; k < d; k++) inverse[i][j] += pose[4 * i + k] * inner[k][j];
}

/* The price of one part of the strain; `slope` gains its derivative by that part. */
static double price_part(double part[MOST_DIMS][MOST_DIMS], int d, double width, double slope[MOST_DIMS][MOST_DIMS]) {
    double square = 0.0;
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++) square += part[i][j] * part[i][j];
    const double steepness = sqrt(1.0 + square / (width * width));
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++) slope[i][j] += part[i][j] / steepness;
    return square / (1.0 + steepness);
}

/* Of a finite pose; `slope`, 4 by 4, gains the derivative by A. */
static double price_pose(const double *pose, int d, const double *widths, double *slope) {
    double shape[MOST_DIMS][MOST_DIMS] = {{0}}, inverse[MOST_DIMS][MOST_DIMS] = {{0}};
    double size[MOST_DIMS][MOST_DIMS] = {{0}}, by_strain[MOST_DIMS][MOST_DIMS] = {{0}}, trace = 0.0;
    strain_of(pose, d, shape, inverse);
    for (int i = 0; i < d; i++) trace += shape[i][i];
    for (int i = 0; i < d; i++) size[i][i] = trace / d, shape[i][i] -= trace / d;
    const double price = price_part(size, d, widths[0], by_strain) + price_part(shape, d, widths[1], by_strain);
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++)
            for (int k = 0; k < d; k++) slope[4 * i + j] += inverse[i][k] * by_strain[k][j];
    return price;
}

void price_strain(const Argument *a) {
    const double *poses = a[0].data, *widths = a[1].data;
    const int64_t batch = a[0].shape[0], d = a[2].whole;
    double *prices = a[3].data, *slopes = a[4].data;
    memset(slopes, 0, (size_t)a[4].size * sizeof(double));
    for (int64_t b = 0; b < batch; b++)
        prices[b] = finite_pose(poses + 16 * b) ? price_pose(poses + 16 * b, (int)d, widths, slopes + 16 * b) : 0.0;
}
