/* What direct.c and direct_gradient.c share (nets/_direct.py): products in bf16 whose sums stay in registers. Maps lie as
   (B, D, H, W, channels), channels in blocks of 16; extent.h says how their voxels see each other. */
#ifndef DIRECT_H
#define DIRECT_H
#include "extent.h"
#include <immintrin.h>
#include <string.h>

enum { LANES = 16, PAIRS = LANES / 2, SQUARE = LANES * LANES, MOST = 28 }; /* MOST: voxels at once */

static const uint16_t zeros[LANES] = {0};

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
