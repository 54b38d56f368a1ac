/* How poses stretch images: see medmi/registration/stiffness.py. */

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

/* E = log(A' A) / 2 and A^-T E = A (A' A)^-1 E of the linear part A of a pose. */
static void strain_pose(const double *pose, int d, double *strain, double *by_linear) {
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
                const double pair = along * axes[i][k] * axes[j][k];
                strain[d * i + j] += pair, inner[i][j] += pair / squares[k][k];
            }
    }
    for (int i = 0; i < d; i++)
        for (int j = 0; j < d; j++)
            for (int k = 0; k < d; k++) by_linear[d * i + j] += pose[4 * i + k] * inner[k][j];
}

void strain(const Argument *a) {
    const double *poses = a[0].data;
    const int64_t batch = a[0].shape[0], d = a[1].shape[1];
    double *strains = a[1].data, *by_linear = a[2].data;
    memset(strains, 0, (size_t)a[1].size * sizeof(double));
    memset(by_linear, 0, (size_t)a[2].size * sizeof(double));
    for (int64_t b = 0; b < batch; b++)
        if (finite_pose(poses + 16 * b)) strain_pose(poses + 16 * b, (int)d, strains + b * d * d, by_linear + b * d * d);
}
