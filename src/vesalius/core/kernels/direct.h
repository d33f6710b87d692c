/* What direct.c and direct_gradient.c share (nets/_direct.py): how the voxels of two maps see each other, and products in bf16 whose sums
   stay in registers.

   A convolution sees voxel `at * step + place - pad` of the fine map, its input, from voxel `at` of the coarse one, at each place of its
   kernel and along each axis. A transposed convolution goes the other way. Maps lie as (B, D, H, W, channels), channels in blocks of 16. */
#ifndef DIRECT_H
#define DIRECT_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16, PAIRS = LANES / 2, SQUARE = LANES * LANES, MOST = 28 }; /* MOST: voxels at once */

typedef struct {
    int64_t batch, fine[3], coarse[3], side[3], step[3], pad[3];
} Extent;

static const uint16_t zeros[LANES] = {0};

static inline int64_t places_of(const Extent *extent) { return extent->side[0] * extent->side[1] * extent->side[2]; }

/* The voxel of the fine map that is seen along an axis, -1 beyond the map. */
static inline int64_t seen(const Extent *extent, int axis, int64_t at, int64_t place) {
    int64_t found = at * extent->step[axis] + place - extent->pad[axis];
    return found >= 0 && found < extent->fine[axis] ? found : -1;
}

/* Two values of bf16 in each of 16 places. */
static inline __m512bh everywhere(const uint16_t *two) {
    int both;
    memcpy(&both, two, sizeof both);
    return (__m512bh)_mm512_set1_epi32(both);
}

/* The values of one and the other in turn, from registers of 16 each. */
static inline __m512i in_turn(__m256i one, __m256i two) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16));
}

#endif
