/* What winograd_full.c and winograd_full_gradient.c share (nets/_winograd.py): planes of maps in single precision, and the sums of
   6 x 6 inputs that tiles of 4 x 4 outputs need.

   Along an axis a tile is a product of polynomials, known at 0, at -a, a, -b and b with a = 3/4 and b = 3/2, and by its leading coefficient.
   At these places results are half as far from double precision as at the usual 1 and 2, and all that stands at the inputs is exact in
   binary. */
#ifndef WINOGRAD_FULL_H
#define WINOGRAD_FULL_H
#include "lanes.h"
#ifdef HAS_LANES
#pragma GCC diagnostic ignored "-Wpsabi" /* how registers are handed over does not matter: all of this is inlined */
#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 16, PARTS = BLOCK / LANES, STEP = 4, SIDE = 6, POINTS = SIDE * SIDE }; /* channels together; outputs and inputs of a tile */
enum { ROWS = LANES == 16 ? 14 : 6, MOST = LANES == 16 ? 28 : 24 };                   /* tiles in the registers, and worked on together */

typedef struct {
    float *x; /* a plane (height, width, channels), at some of the channels */
    int64_t height, width, channels;
} Plane;

typedef struct {
    float *at[2]; /* maps (B, D, H, W, 16 blocks) that lie beside each other as one; the second may be none */
    int64_t blocks[2];
} Maps;

/* A block of channels of a plane, counted through all samples. */
static inline Plane plane_of(const Maps *maps, int64_t plane, int64_t block, int64_t height, int64_t width) {
    int second = block >= maps->blocks[0];
    int64_t channels = maps->blocks[second] * BLOCK, start = block - second * maps->blocks[0];
    return (Plane){maps->at[second] + plane * height * width * channels + start * BLOCK, height, width, channels};
}

/* The values of a tile of inputs at the six places along an axis; `step` and `apart` from one to the next. */
INLINE void inputs_of(const Reals *d, int step, Reals *to, int apart) {
    const Reals near = every(0.5625f), far = every(2.25f), one = every(0.75f), two = every(1.5f);
    const Reals both = every(2.8125f), product = every(1.265625f); /* a^2 + b^2, a^2 b^2 */
    Reals even = d[4 * step] - far * d[2 * step], odd = (d[3 * step] - far * d[step]) * one;
    to[0] = d[4 * step] - both * d[2 * step] + product * d[0];
    to[apart] = even + odd;
    to[2 * apart] = even - odd;
    even = d[4 * step] - near * d[2 * step], odd = (d[3 * step] - near * d[step]) * two;
    to[3 * apart] = even + odd;
    to[4 * apart] = even - odd;
    to[5 * apart] = d[5 * step] - both * d[3 * step] + product * d[step];
}

/* Four outputs along an axis of the products at the six places. */
INLINE void outputs_of(const Reals *m, int step, Reals *to, int apart) {
    Reals even = m[step] + m[2 * step], odd = m[step] - m[2 * step];
    Reals wide = m[3 * step] + m[4 * step], skew = m[3 * step] - m[4 * step];
    to[0] = m[0] + even + wide;
    to[apart] = every(0.75f) * odd + every(1.5f) * skew;
    to[2 * apart] = every(0.5625f) * even + every(2.25f) * wide;
    to[3 * apart] = every(0.421875f) * odd + every(3.375f) * skew + m[5 * step];
}

typedef struct {
    const float *from[SIDE]; /* six rows of a plane; 0 beyond it */
    int64_t inside[SIDE], width, channels;
} Lines;

static const float nothing[LANES] = {0};

INLINE Lines lines_of(const Plane *plane, int64_t y) {
    Lines lines = {.width = plane->width, .channels = plane->channels};
    for (int k = 0; k < SIDE; k++) {
        lines.inside[k] = y + k >= 0 && y + k < plane->height ? -1 : 0;
        lines.from[k] = lines.inside[k] ? plane->x + (y + k) * plane->width * plane->channels : nothing;
    }
    return lines;
}

/* The channels at `x` of the first `many` lines, 0 beyond the plane. */
INLINE void across_lines(const Lines *lines, int64_t x, Reals *to, int many) {
    int within = x >= 0 && x < lines->width;
    for (int k = 0; k < many; k++)
        to[k] = within ? reals(lines->from[k] + (x * lines->channels & lines->inside[k])) : every(0);
}

INLINE void column(const Lines *lines, int64_t x, Reals *to) {
    Reals own[SIDE];
    across_lines(lines, x, own, SIDE);
    inputs_of(own, 1, to, 1);
}

/* What `count` tiles from number `first` give, LANES channels of each: (36 points, count, 16), the points `step` apart. */
static inline void transform_lanes(const Plane *plane, int64_t across, int64_t first, int64_t count, int64_t step, float *to) {
    Reals c[SIDE][SIDE], sums[SIDE];
    Lines lines;
    for (int64_t t = first; t < first + count; t++, to += BLOCK) {
        int64_t x = t % across * STEP;
        if (t == first || x == 0) {
            lines = lines_of(plane, t / across * STEP - 1);
            column(&lines, x - 1, c[0]);
            column(&lines, x, c[1]);
        }
        for (int k = 2; k < SIDE; k++) column(&lines, x + k - 1, c[k]);
        for (int k = 0; k < SIDE; k++) {
            inputs_of(c[0] + k, SIDE, sums, 1);
            for (int j = 0; j < SIDE; j++) put(to + (SIDE * k + j) * step, sums[j]);
        }
        memcpy(c, c + STEP, 2 * sizeof *c);
    }
}

/* The same for all channels of a block. */
static inline void transform(const Plane *plane, int64_t across, int64_t first, int64_t count, int64_t step, float *to) {
    for (int part = 0; part < PARTS; part++) {
        Plane own = *plane;
        own.x += part * LANES;
        transform_lanes(&own, across, first, count, step, to + part * LANES);
    }
}
#endif
#endif
