/* What the kernels that change grey values share (grey.c, noise.c, smooth.c; augment/_grey.py): one channel is `count` values of
 * float32 one behind the other. */
#ifndef GREY_H
#define GREY_H
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { TOGETHER = 16, RUN = 2048 }; /* values that go through a step at once; that are added up in single precision, in 16 sums or more */

typedef struct {
    float low, high;
    double sum; /* not a number where a value is not, or where infinities of both signs meet */
} Extent;

Extent extent_of(const float *values, int64_t count);

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* 2 to the power of a whole number from -126 to 126 and a rest between -1/2 and 1/2, within 1.5e-7 of itself. */
static inline float two_to_the(float whole, float rest) {
    float part = 0.001327647152f;
    part = part * rest + 0.009675541331f;
    part = part * rest + 0.05550713275f;
    part = part * rest + 0.2402211972f;
    part = part * rest + 0.6931469671f;
    part = part * rest + 1.0f;
    return part * from_bits((uint32_t)((int32_t)whole + 127) << 23);
}

/* `x` to the power `power` for x from 2^-126 to 1 and a power above 0, 0 below, within 6e-7 of itself: the logarithm is kept in two parts,
 * a whole number and a polynomial between 3/4 and 3/2, so that nothing is lost of it. */
static inline float to_the_power(float x, float power) {
    int32_t exponent = (int32_t)(bits_of(x) - 0x3f400000u) >> 23; /* the bits of 3/4 */
    float f = from_bits(bits_of(x) - ((uint32_t)exponent << 23)) - 1.0f, whole = (float)exponent;
    float part = 0.07806667084f;
    part = part * f - 0.1742301701f;
    part = part * f + 0.2163248612f;
    part = part * f - 0.2427235255f;
    part = part * f + 0.2881915054f;
    part = part * f - 0.3605759216f;
    part = part * f + 0.4809020805f;
    part = part * f - 0.7213484784f;
    part = part * f + 1.442695032f;
    float less = power * (part * f), sum = power * whole + less;
    float near = (sum + 12582912.0f) - 12582912.0f, rest = (power * whole - near) + less;
    float held = near > -126.0f ? near : -126.0f;
    return x >= 1.17549435e-38f && near > -126.0f ? two_to_the(held, rest) : 0.0f;
}

#endif
