/* Gaussian blur and low resolution (augment/_grey.py) of a channel of planes x rows x columns of float32, columns side by side, in its place
 * (a picture: as many planes of one row each).
 * Both go over it once: what they still need of planes that are written lies in a few planes beside it. */
#include "grey.h"

enum { LARGEST = 64 }; /* radius */

typedef struct {
    int64_t planes, rows, columns;
} Sides;

typedef float Values __attribute__((vector_size(4 * TOGETHER))); /* registers, however long they are */

/* `out` of `length` is what `rows[0]` ... `rows[2 * radius]` hold, weighed from the middle outwards, from `first` on. */
static inline void weigh_some(float *restrict out, const float *const *rows, const float *weights, int64_t first, int radius) {
    Values sum, before, behind;
    memcpy(&sum, rows[radius] + first, sizeof sum);
    sum *= weights[0];
    for (int step = 1; step <= radius; step++) {
        memcpy(&before, rows[radius - step] + first, sizeof before);
        memcpy(&behind, rows[radius + step] + first, sizeof behind);
        sum += weights[step] * (before + behind);
    }
    memcpy(out + first, &sum, sizeof sum);
}

/* The same of all `length` values: the last ones that go together overlap those before them. */
static inline void weigh_by(float *restrict out, const float *const *rows, const float *weights, int64_t length, int radius) {
    int64_t first = 0;
    for (; first + TOGETHER <= length; first += TOGETHER) weigh_some(out, rows, weights, first, radius);
    if (first < length && length >= TOGETHER) weigh_some(out, rows, weights, length - TOGETHER, radius);
    for (; first < length && length < TOGETHER; first++) {
        float sum = weights[0] * rows[radius][first];
        for (int step = 1; step <= radius; step++) sum += weights[step] * (rows[radius - step][first] + rows[radius + step][first]);
        out[first] = sum;
    }
}

static void weigh(float *restrict out, const float *const *rows, const float *weights, int64_t length, int radius) {
    switch (radius) { /* of the usual ones the compiler knows how many there are */
    case 0: memcpy(out, rows[0], (size_t)length * sizeof *out); break;
    case 1: weigh_by(out, rows, weights, length, 1); break;
    case 2: weigh_by(out, rows, weights, length, 2); break;
    case 3: weigh_by(out, rows, weights, length, 3); break;
    case 4: weigh_by(out, rows, weights, length, 4); break;
    default: weigh_by(out, rows, weights, length, radius);
    }
}

/* Half of a Gaussian of `sigma` voxels, from its middle to `radius`; the whole sums to 1. The radius within which it is not 0. */
static int gaussian(float *weights, double sigma, int radius) {
    double half[LARGEST + 1], sum = 0;
    for (int step = 0; step <= radius; step++) {
        double far = step / (sigma > 1e-3 ? sigma : 1e-3);
        sum += half[step] = exp(-0.5 * far * far);
    }
    int last = 0;
    for (int step = 0; step <= radius; step++) {
        weights[step] = (float)(half[step] / (2 * sum - 1));
        if (weights[step] > 0) last = step;
    }
    return last;
}

static int64_t held(int64_t place, int64_t side) { return place < 0 ? 0 : place < side ? place : side - 1; }

typedef struct {
    float weights[3][LARGEST + 1];
    int radius[3];
    Sides sides;
    float *wide; /* a plane whose rows go on by a radius at both ends */
} Blur;

/* One plane blurred within itself, from `in` to `out`. */
static void blur_plane(const Blur *blur, const float *in, float *restrict out) {
    int64_t rows = blur->sides.rows, columns = blur->sides.columns, radius = blur->radius[2], width = columns + 2 * radius;
    const float *near[2 * LARGEST + 1];
    for (int64_t row = 0; row < rows; row++) {
        float *wide = blur->wide + row * width + radius;
        for (int step = -blur->radius[1]; step <= blur->radius[1]; step++)
            near[step + blur->radius[1]] = in + held(row + step, rows) * columns;
        weigh(wide, near, blur->weights[1], columns, blur->radius[1]);
        for (int64_t k = 1; k <= radius; k++) wide[-k] = wide[0], wide[columns - 1 + k] = wide[columns - 1];
    }
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t step = 0; step <= 2 * radius; step++) near[step] = blur->wide + row * width + step;
        weigh(out + row * columns, near, blur->weights[2], columns, blur->radius[2]);
    }
}

/* Along the first axis a plane is written when the last one that it needs has been blurred into the `ring` of 2 * radius + 1. */
static void blur_channel(const Blur *blur, float *channel, float *ring) {
    int64_t planes = blur->sides.planes, size = blur->sides.rows * blur->sides.columns;
    int radius = blur->radius[0], count = 2 * radius + 1;
    const float *near[2 * LARGEST + 1];
    for (int64_t plane = 0; plane < planes + radius; plane++) {
        if (plane < planes) blur_plane(blur, channel + plane * size, ring + plane % count * size);
        int64_t now = plane - radius;
        if (now < 0) continue;
        for (int step = -radius; step <= radius; step++) near[step + radius] = ring + held(now + step, planes) % count * size;
        weigh(channel + now * size, near, blur->weights[0], size, radius);
    }
}

/* Channels of a sample blurred by their `sigmas` (`axes` for each, 2 or 3, in voxels; a channel whose sigmas are 0 stays), cut at `radius`
 * up to 64, edges repeat. `spare` holds (2 * radius + 1) * rows * columns + rows * (columns + 2 * radius) values. */
void grey_blur(float *sample, const float *sigmas, float *spare, int64_t radius, int64_t axes, int64_t channels, int64_t planes, int64_t rows,
               int64_t columns) {
    Blur blur = {.sides = {planes, rows, columns}, .wide = spare + (2 * radius + 1) * rows * columns};
    for (int64_t channel = 0; channel < channels; channel++, sigmas += axes, sample += planes * rows * columns) {
        double wide[3] = {sigmas[0], axes == 3 ? sigmas[1] : 0, sigmas[axes - 1]};
        if (wide[0] == 0 && wide[1] == 0 && wide[2] == 0) continue;
        for (int axis = 0; axis < 3; axis++) blur.radius[axis] = gaussian(blur.weights[axis], wide[axis], (int)radius);
        blur_channel(&blur, sample, spare);
    }
}

/* One axis at low resolution: coarse voxel c looks like the fine voxel `left[c]`; fine voxel k lies between coarse ones `low[k]` and the
 * one behind it (or itself, where it is the last) and takes `share[k]` of the further one. */
typedef struct {
    int64_t side, size;
    int32_t *left, *low;
    float *share;
} Axis;

static Axis axis_of(int64_t side, int64_t size, int32_t *numbers, float *share) {
    Axis axis = {side, size, numbers, numbers + size, share};
    for (int64_t c = 0; c < size; c++) axis.left[c] = (int32_t)(((double)c + 0.5) * (double)side / (double)size);
    for (int64_t k = 0; k < side; k++) {
        double place = ((double)k + 0.5) * (double)size / (double)side - 0.5;
        place = place < 0 ? 0 : place > (double)(size - 1) ? (double)(size - 1) : place;
        axis.low[k] = (int32_t)place;
        axis.share[k] = (float)(place - axis.low[k]);
    }
    return axis;
}

/* `out` is `share` of the way from `from` to `to`. */
static void between(float *restrict out, const float *restrict from, const float *restrict to, int64_t length, float share) {
    for (int64_t k = 0; k < length; k++) out[k] = from[k] + share * (to[k] - from[k]);
}

#ifdef __AVX512F__
#include <immintrin.h>

/* The same of a row, whose voxels each have their own share: sixteen neighbours look at no more than sixteen coarse voxels. */
static void along(float *restrict out, const float *coarse, const Axis *axis) {
    for (int64_t at = 0; at < axis->side; at += TOGETHER) {
        int64_t first = at + TOGETHER <= axis->side || axis->side < TOGETHER ? at : axis->side - TOGETHER;
        __mmask16 there = axis->side < TOGETHER ? (__mmask16)((1u << axis->side) - 1) : 0xffff;
        __m512i base = _mm512_set1_epi32(axis->low[first]);
        __m512i number = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(there, axis->low + first), base);
        __m512 from = _mm512_permutexvar_ps(number, _mm512_loadu_ps(coarse + axis->low[first]));
        __m512 to = _mm512_permutexvar_ps(number, _mm512_loadu_ps(coarse + axis->low[first] + 1));
        __m512 share = _mm512_maskz_loadu_ps(there, axis->share + first);
        _mm512_mask_storeu_ps(out + first, there, _mm512_fmadd_ps(share, _mm512_sub_ps(to, from), from));
    }
}
#else
static void along(float *restrict out, const float *coarse, const Axis *axis) {
    for (int64_t k = 0; k < axis->side; k++) {
        const float *from = coarse + axis->low[k];
        out[k] = from[0] + axis->share[k] * (from[1] - from[0]);
    }
}
#endif

typedef struct {
    Axis planes, rows, columns;
    float *row, *wide; /* a coarse row and 17 values more; the coarse rows of a plane, as long as fine ones */
} Coarse;

/* A coarse plane, as large as a fine one, from the plane `in` at which it looks. */
static void spread(const Coarse *at, const float *in, float *restrict out) {
    int64_t columns = at->columns.side, size = at->columns.size;
    for (int64_t c = 0; c < at->rows.size; c++) {
        const float *from = in + at->rows.left[c] * columns;
        float *wide = (at->rows.size == at->rows.side ? out : at->wide) + c * columns;
        if (size == columns) {
            memcpy(wide, from, (size_t)columns * sizeof *wide);
            continue;
        }
        for (int64_t k = 0; k < size; k++) at->row[k] = from[at->columns.left[k]];
        for (int64_t k = size; k < size + TOGETHER + 1; k++) at->row[k] = at->row[size - 1];
        along(wide, at->row, &at->columns);
    }
    if (at->rows.size == at->rows.side) return;
    for (int64_t row = 0; row < at->rows.side; row++) {
        int64_t low = at->rows.low[row], high = low + 1 < at->rows.size ? low + 1 : low;
        between(out + row * columns, at->wide + low * columns, at->wide + high * columns, columns, at->rows.share[row]);
    }
}

/* Planes are written from two coarse ones; no coarse plane looks at one that has been written, since a grid is never finer. */
static void coarsen(const Coarse *at, float *channel, float *pair) {
    int64_t size = at->rows.side * at->columns.side, made = 0;
    for (int64_t plane = 0; plane < at->planes.side; plane++) {
        int64_t low = at->planes.low[plane], high = low + 1 < at->planes.size ? low + 1 : low;
        for (; made <= high; made++) spread(at, channel + at->planes.left[made] * size, pair + made % 2 * size);
        between(channel + plane * size, pair + low % 2 * size, pair + high % 2 * size, size, at->planes.share[plane]);
    }
}

static void coarsen_planes(const Coarse *at, float *channel, float *pair) {
    int64_t size = at->rows.side * at->columns.side;
    for (int64_t plane = 0; plane < at->planes.side; plane++) {
        spread(at, channel + plane * size, pair);
        memcpy(channel + plane * size, pair, (size_t)size * sizeof *pair);
    }
}

/* Channels of a sample as they look on coarser grids of `sizes` (three for each, none above the side; a channel whose three are the sides
 * stays): the nearest fine voxels, and linear between them. `spare` holds 3 * rows * columns + 3 * (planes + rows + columns) + columns + 17
 * values, each of four bytes. */
void grey_coarsen(float *sample, const int64_t *sizes, float *spare, int64_t channels, int64_t planes, int64_t rows, int64_t columns) {
    float *wide = spare + 2 * rows * columns, *row = wide + rows * columns, *shares = row + columns + TOGETHER + 1;
    int32_t *numbers = (int32_t *)(shares + planes + rows + columns);
    for (int64_t channel = 0; channel < channels; channel++, sizes += 3, sample += planes * rows * columns) {
        if (sizes[0] == planes && sizes[1] == rows && sizes[2] == columns) continue;
        Coarse at = {axis_of(planes, sizes[0], numbers, shares), axis_of(rows, sizes[1], numbers + 2 * planes, shares + planes),
                     axis_of(columns, sizes[2], numbers + 2 * (planes + rows), shares + planes + rows), row, wide};
        sizes[0] == planes ? coarsen_planes(&at, sample, spare) : coarsen(&at, sample, spare);
    }
}
