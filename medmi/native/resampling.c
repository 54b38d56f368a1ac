/* An image through one matrix: see medmi/spatial/kernels_cpu.py. */

#include "loops.h"

INLINE double kept_on(double index, int64_t length) { return fmin(fmax(index, 0.0), (double)(length - 1)); }

VECTOR void resample_rows(const Argument *a) {
    const float *volume = a[0].data;
    const double *m = a[1].data;
    float *out = a[4].data;
    const int64_t channels = a[0].shape[0], nx = a[0].shape[1], ny = a[0].shape[2], nz = a[0].shape[3], voxels = nx * ny * nz;
    const int64_t rows = a[4].shape[1], lines = a[4].shape[2], length = a[4].shape[3];
    for (int64_t i = a[2].whole; i < a[3].whole; i++)
        for (int64_t j = 0; j < lines; j++)
            for (int64_t k = 0; k < length; k++) {
                double index[4];
                for (int r = 0; r < 4; r++)
                    index[r] = m[4 * r] * (double)i + m[4 * r + 1] * (double)j + m[4 * r + 2] * (double)k + m[4 * r + 3];
                const double h = index[3], u = h == 1.0 ? index[0] : index[0] / h, v = h == 1.0 ? index[1] : index[1] / h,
                             w = h == 1.0 ? index[2] : index[2] / h;
                const int64_t at = (i * lines + j) * length + k, whole = rows * lines * length;
                const int inside = u >= -0.5 && v >= -0.5 && w >= -0.5 && u < (double)nx - 0.5 && v < (double)ny - 0.5
                                   && w < (double)nz - 0.5;
                if (!inside) {
                    for (int64_t c = 0; c < channels; c++) out[c * whole + at] = 0.0f;
                    continue;
                }
                const double cu = kept_on(u, nx), cv = kept_on(v, ny), cw = kept_on(w, nz);
                const int64_t x = (int64_t)cu, y = (int64_t)cv, z = (int64_t)cw;
                const float fu = (float)(cu - (double)x), fv = (float)(cv - (double)y), fw = (float)(cw - (double)z);
                /* At the last voxel of an axis the upper neighbour is the voxel itself. */
                const int64_t below = x + 1 < nx ? ny * nz : 0, beside = y + 1 < ny ? nz : 0, behind = z + 1 < nz ? 1 : 0;
                for (int64_t c = 0; c < channels; c++) {
                    const float *near = volume + c * voxels + (x * ny + y) * nz + z, *far = near + below;
                    const float v00 = near[0] + fw * (near[behind] - near[0]);
                    const float v01 = near[beside] + fw * (near[beside + behind] - near[beside]);
                    const float v10 = far[0] + fw * (far[behind] - far[0]);
                    const float v11 = far[beside] + fw * (far[beside + behind] - far[beside]);
                    const float v0 = v00 + fv * (v01 - v00), v1 = v10 + fv * (v11 - v10);
                    out[c * whole + at] = v0 + fu * (v1 - v0);
                }
            }
}
