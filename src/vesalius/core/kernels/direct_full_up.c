/* Transposed convolutions in single precision whose kernel is their step: a voxel of the result is the product of one voxel of the input
   and one place of the kernel. */
#include "direct_full.h"
#include "parallel.h"
#include <stdlib.h>

enum { VOXELS = 256 }; /* of the input that are worked on together, about */

typedef struct {
    const float *from, *weights, *bias;
    float *to;
    Extent extent;
    int64_t in, made, rows;         /* channels; rows of the input, through all planes and samples */
    int64_t groups, across, parts;  /* how many times they are divided, and each of them, and what they give */
    int32_t lacking;                /* whether there was no memory: set by any thread */
} Map;

typedef struct {
    int64_t top, bottom, left, right; /* rows and columns of the input */
} Some;

/* Channels from number `k` on, at one place of the kernel, of all that some voxels give. */
static void channels(const Map *map, const Some *some, const float *bias, int64_t place, int64_t k) {
    const Extent *of = &map->extent;
    int64_t a = place / of->side[2] / of->side[1], b = place / of->side[2] % of->side[1], c = place % of->side[2], rest = map->made - k;
    Runs runs = {.count = 1, .length = map->in, .apart = map->in, .block = places_of(of) * map->in * BLOCK};
    Goal goal = {.bias = bias + k, .apart = of->step[2] * map->made, .channels = rest < WIDE ? rest : WIDE, .first = 1, .last = 1};
    runs.u[0] = map->weights + k / BLOCK * runs.block + place * map->in * BLOCK;
    for (int64_t y = some->top; y < some->bottom; y++) {
        int64_t plane = y / of->coarse[1] * of->step[0] + a, row = plane * of->fine[1] + y % of->coarse[1] * of->step[1] + b;
        runs.v[0] = map->from + (y * of->coarse[2] + some->left) * map->in;
        goal.to = map->to + (row * of->fine[2] + some->left * of->step[2] + c) * map->made + k;
        along_row(&runs, &goal, some->right - some->left);
    }
}

static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t passes = (map->made + WIDE - 1) / WIDE, jobs = places_of(&map->extent) * passes, width = map->extent.coarse[2];
    float *bias = calloc(passes * WIDE, sizeof(float));
    if (!bias) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    if (bias && map->bias) memcpy(bias, map->bias, map->made * sizeof(float));
    for (int64_t n = first; n < end && bias; n++) {
        int64_t part = n % map->parts, x = n / map->parts % map->across, group = n / map->parts / map->across;
        Some some = {map->rows * group / map->groups, map->rows * (group + 1) / map->groups, width * x / map->across,
                     width * (x + 1) / map->across};
        for (int64_t job = jobs * part / map->parts; job < jobs * (part + 1) / map->parts; job++)
            channels(map, &some, bias, job / passes, job % passes * WIDE);
    }
    free(bias);
}

/* The map `to` (B, *coarse * step, made) of `from` (B, *coarse, in): a transposed convolution whose kernel is its step, without a border;
   everything else as for `direct_full_down`. */
void direct_full_up(const float *from, const float *weights, const float *bias, float *to, const int64_t *extent, int64_t in, int64_t made,
                    int64_t threads, int64_t *done) {
    Map map = {.from = from, .weights = weights, .bias = bias, .to = to, .in = in, .made = made};
    memcpy(&map.extent, extent, sizeof map.extent);
    const int64_t *coarse = map.extent.coarse;
    map.rows = map.extent.batch * coarse[0] * coarse[1];
    map.across = (coarse[2] + VOXELS - 1) / VOXELS;
    map.groups = (map.rows * coarse[2] / map.across + VOXELS - 1) / VOXELS;
    int64_t shares = map.groups * map.across, jobs = places_of(&map.extent) * ((made + WIDE - 1) / WIDE);
    map.parts = shares < 4 * threads ? (4 * threads + shares - 1) / shares : 1;
    map.parts = threads < 2 ? 1 : map.parts < jobs ? map.parts : jobs;
    in_shares(share, &map, shares * map.parts, threads);
    *done = !map.lacking;
}
