/* The weights of the convolutions in direct.c, in the order of their products. */
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include "direct.h"

/* 16 x 16 weights in float32, `apart` along both, as (8 pairs of the second, 16 of the first, 2) in bf16. */
static void square(const float *from, const int64_t *apart, uint16_t *to) {
    float lanes[LANES];
    uint32_t rows[LANES][PAIRS];
    __m256i halves[LANES];
    int near = apart[1] == 1 ? 1 : 0; /* the axis whose weights make a register */
    for (int k = 0; k < LANES; k++) {
        const float *row = from + k * apart[1 - near];
        for (int j = 0; j < LANES; j++) lanes[j] = row[j * apart[near]];
        halves[k] = (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(lanes));
    }
    if (!near) {
        for (int k = 0; k < LANES; k += 2) _mm512_storeu_si512(to + k * LANES, in_turn(halves[k], halves[k + 1]));
        return;
    }
    memcpy(rows, halves, sizeof rows);
    for (int k = 0; k < LANES; k++)
        for (int pair = 0; pair < PAIRS; pair++) memcpy(to + (pair * LANES + k) * 2, &rows[k][pair], sizeof(uint32_t));
}

/* Weights (made, in, *sides) in float32, `strides` apart, as (made / 16, places, in / 2, 16, 2) in bf16. */
void direct_weights(const float *weights, const int64_t *strides, uint16_t *to, int64_t made, int64_t in, const int64_t *extent) {
    Extent of;
    memcpy(&of, extent, sizeof of);
    for (int64_t k = 0; k < made; k += LANES)
        for (int64_t place = 0; place < places_of(&of); place++) {
            int64_t c = place % of.side[2], b = place / of.side[2] % of.side[1], a = place / of.side[2] / of.side[1];
            const float *from = weights + k * strides[0] + a * strides[2] + b * strides[3] + c * strides[4];
            for (int64_t j = 0; j < in; j += LANES, to += SQUARE) square(from + j * strides[1], strides, to);
        }
}
#endif
