/* What winograd.c and winograd_gradient.c share (nets/_winograd.py): planes of maps in bf16, and sums that tiles of
   2 x 2 outputs need of their 4 x 4 inputs. */
#ifndef WINOGRAD_H
#define WINOGRAD_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, POINTS = 16, MOST = 28 }; /* channels at once, points of a tile, tiles at once */

typedef struct {
    uint16_t *x; /* a plane (height, width, channels), at a block of channels */
    int64_t height, width, channels;
} Plane;

typedef struct {
    uint16_t *at[2]; /* maps (B, D, H, W, 16 blocks) that lie beside each other as one; the second may be none */
    int64_t blocks[2];
} Maps;

/* A block of channels of a plane, counted through all samples. */
static inline Plane plane_of(const Maps *maps, int64_t plane, int64_t block, int64_t height, int64_t width) {
    int second = block >= maps->blocks[0];
    int64_t channels = maps->blocks[second] * LANES, start = block - second * maps->blocks[0];
    return (Plane){maps->at[second] + plane * height * width * channels + start * LANES, height, width, channels};
}

typedef struct {
    const uint16_t *from[4]; /* four rows of a plane; 0 beyond it */
    int64_t inside[4], width, channels;
} Rows;

static const uint16_t zeros[LANES] = {0};

static inline Rows rows_of(const Plane *plane, int64_t y) {
    Rows rows = {.width = plane->width, .channels = plane->channels};
    for (int k = 0; k < 4; k++) {
        rows.inside[k] = y + k >= 0 && y + k < plane->height ? -1 : 0;
        rows.from[k] = rows.inside[k] ? plane->x + (y + k) * plane->width * plane->channels : zeros;
    }
    return rows;
}

/* 16 channels at `x` of a row, which must be inside the plane. */
static inline __m512 values(const Rows *rows, int row, int64_t x) {
    const uint16_t *at = rows->from[row] + (x * rows->channels & rows->inside[row]);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)at)), 16));
}

/* Sums of four inputs that a tile needs along an axis. */
static inline void sums_of(__m512 a, __m512 b, __m512 c, __m512 d, __m512 *sums) {
    sums[0] = a - c;
    sums[1] = b + c;
    sums[2] = c - b;
    sums[3] = b - d;
}

/* The same for the four rows at `x`, 0 beyond the plane. */
static inline void column(const Rows *rows, int64_t x, __m512 *sums) {
    if (x >= 0 && x < rows->width)
        sums_of(values(rows, 0, x), values(rows, 1, x), values(rows, 2, x), values(rows, 3, x), sums);
    else
        for (int k = 0; k < 4; k++) sums[k] = _mm512_setzero_ps();
}

/* Two values of bf16 in each of 16 places. */
static inline __m512bh everywhere(const uint16_t *two) {
    int both;
    memcpy(&both, two, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

#endif
