/* The gradients of the last convolution of a network, of every voxel by itself and to few classes: those of weights and map in one pass
   (nets/_last.py).

   Maps lie as (voxels, channels) in bf16, those of many channels in blocks of 16. What is added up is in single precision. */
#include "halves.h"
#include "parallel.h"
#include <stdlib.h>

enum { CHUNK = 256, GROUPS = 16 }; /* voxels at once; shares with sums of their own */

typedef struct {
    const uint16_t *x, *grad;
    const float *weights;
    uint16_t *to;
    float *sums; /* for each group: (few, in) and (few) */
    int64_t voxels, in, few, groups;
} Map;

/* 16 channels, from number `at`, of some voxels, whose gradients are `grad` (count, few). */
INLINE void block(const Map *map, const float *grad, int64_t first, int64_t count, int64_t at, float *sums, int few) {
    const uint16_t *x = map->x + first * map->in + at;
    uint16_t *to = map->to ? map->to + first * map->in + at : 0;
    Floats learned[8], weights[8];
    float total[8] = {0}, *bias = sums + few * map->in;
#pragma GCC unroll 8
    for (int k = 0; k < few; k++) {
        memcpy(&learned[k], sums + k * map->in + at, sizeof learned[k]);
        memcpy(&weights[k], map->weights + k * map->in + at, sizeof weights[k]);
    }
    for (int64_t t = 0; t < count; t++, x += map->in, grad += few) {
        Floats value = widened(x), back = weights[0] * grad[0];
#pragma GCC unroll 8
        for (int k = 0; k < few; k++) {
            learned[k] += value * grad[k];
            if (k) back += weights[k] * grad[k];
            total[k] += grad[k];
        }
        if (to) narrowed(to + t * map->in, back);
    }
#pragma GCC unroll 8
    for (int k = 0; k < few; k++) {
        memcpy(sums + k * map->in + at, &learned[k], sizeof learned[k]);
        if (!at) bias[k] += total[k];
    }
}

/* The same for 1 ... 8 classes. */
static void blocks(const Map *map, const float *grad, int64_t first, int64_t count, int64_t at, float *sums) {
    switch (map->few) {
#define CASE(n) case n: block(map, grad, first, count, at, sums, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
}

static void chunk(const Map *map, int64_t first, int64_t count, float *sums) {
    float grad[CHUNK * 8];
    const uint16_t *from = map->grad + first * map->few;
    for (int64_t n = 0; n < count * map->few; n++) grad[n] = single(from[n]);
    for (int64_t at = 0; at < map->in; at += WIDTH) blocks(map, grad, first, count, at, sums);
}

static void share(void *of, int64_t first, int64_t end) {
    const Map *map = of;
    int64_t chunks = (map->voxels + CHUNK - 1) / CHUNK;
    for (int64_t group = first; group < end; group++)
        for (int64_t k = chunks * group / map->groups; k < chunks * (group + 1) / map->groups; k++) {
            int64_t from = k * CHUNK, count = from + CHUNK < map->voxels ? CHUNK : map->voxels - from;
            chunk(map, from, count, map->sums + group * map->few * (map->in + 1));
        }
}

/* From `x` (voxels, in) and the gradients `grad` (voxels, few): in `sums` those of the weights (few, in) and of the bias (few); `to`
   (voxels, in), or none, is that of `x` by the `weights` (few, in). At most 8 are few. `done` is 0 where there was no memory. */
void last_gradient(const uint16_t *x, const float *weights, const uint16_t *grad, uint16_t *to, float *sums, int64_t voxels, int64_t in,
                   int64_t few, int64_t threads, int64_t *done) {
    Map map = {.x = x, .weights = weights, .grad = grad, .to = to, .voxels = voxels, .in = in, .few = few};
    int64_t chunks = (voxels + CHUNK - 1) / CHUNK, size = few * (in + 1);
    map.groups = chunks < GROUPS ? chunks : GROUPS; /* by the shape, never by the threads */
    map.sums = calloc(map.groups * size, sizeof(float));
    *done = map.sums != 0;
    if (!map.sums) return;
    in_shares(share, &map, map.groups, threads);
    memcpy(sums, map.sums, size * sizeof *sums);
    for (int64_t group = 1; group < map.groups; group++)
        for (int64_t n = 0; n < size; n++) sums[n] += map.sums[group * size + n];
    free(map.sums);
}
