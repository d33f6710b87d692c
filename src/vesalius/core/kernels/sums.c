/* Logits of a tile added to the sums of a volume, weighed by a product of three lines, as engine/rolling.py says: float16 sums (classes, x, y, z)
   of how far a class is below the largest of its voxel. Tiles come as a network leaves them, float32 or bfloat16, classes before voxels or
   behind them. */
#include "lanes.h"
#include "parallel.h"
#include <stdlib.h>

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Zeros instead of `size` bytes from `from` on; whole pages are given back to the system, which hands out empty ones. */
static void emptied(char *from, int64_t size) {
#ifdef __linux__
    int64_t page = sysconf(_SC_PAGESIZE);
    char *first = (char *)(((uintptr_t)from + page - 1) / page * page), *last = (char *)(((uintptr_t)from + size) / page * page);
    if (last - first >= page && madvise(first, last - first, MADV_DONTNEED) == 0) {
        memset(from, 0, first - from);
        memset(last, 0, from + size - last);
        return;
    }
#endif
    memset(from, 0, size);
}

/* Zeros in a box of the sums: `sides` classes, x, y and z, that lie `steps` bytes apart, z together in runs of bytes; `back` gives pages back. */
void empty_sums(void *sums, const void *sides_, const void *steps_, int64_t back) {
    const int64_t *sides = sides_, *steps = steps_;
    int64_t run = sides[3], planes = sides[2];
    if (run == steps[2]) run *= planes, planes = 1;
    for (int64_t k = 0; k < sides[0]; k++)
        for (int64_t x = 0; x < sides[1]; x++)
            for (int64_t y = 0; y < planes; y++) {
                char *from = (char *)sums + k * steps[0] + x * steps[1] + y * steps[2];
                if (back) emptied(from, run);
                else memset(from, 0, run);
            }
}

#ifdef HAS_LANES
enum { RUN = 64, FLOAT = 0, BFLOAT = 1 };

typedef struct {
    char *sums;
    const char *logits;
    const float *weights[3]; /* of x, y and z; none where no other tile is */
    int64_t classes, sides[3];
    int64_t sum_steps[3], logit_steps[4]; /* of classes, x and y, in numbers; and of z */
    int64_t kind, exclusive;
    float limit;
    int32_t beyond; /* whether a number was: set by any thread */
} Tile;

/* `count` logits of one class, up to RUN, as float32; those behind them are zeros up to a whole register. */
static inline void read_run(const Tile *tile, float *to, int64_t from, int64_t count) {
    int64_t step = tile->logit_steps[3];
    if (tile->kind == FLOAT && step == 1)
        memcpy(to, (const float *)tile->logits + from, count * sizeof(float));
    else if (tile->kind == FLOAT)
        for (int64_t k = 0; k < count; k++) to[k] = ((const float *)tile->logits)[from + k * step];
    else
        for (int64_t k = 0; k < count; k++) {
            uint32_t bits = (uint32_t)((const uint16_t *)tile->logits)[from + k * step] << 16;
            memcpy(to + k, &bits, sizeof bits);
        }
    for (int64_t k = count; k % LANES; k++) to[k] = 0;
}

/* The same of all classes, where these lie together: voxel by voxel. */
static inline void read_across(const Tile *tile, float *to, int64_t from, int64_t count) {
    for (int64_t z = 0; z < count; z++, from += tile->logit_steps[3])
        if (tile->kind == FLOAT)
            for (int64_t k = 0; k < tile->classes; k++) to[k * RUN + z] = ((const float *)tile->logits)[from + k];
        else
            for (int64_t k = 0; k < tile->classes; k++) {
                uint32_t bits = (uint32_t)((const uint16_t *)tile->logits)[from + k] << 16;
                memcpy(to + k * RUN + z, &bits, sizeof bits);
            }
    for (int64_t k = 0; k < tile->classes; k++)
        for (int64_t z = count; z % LANES; z++) to[k * RUN + z] = 0;
}

/* Adds `values` to the `count` sums from `to` on, or puts them there. */
static inline void add_lanes(Half *to, Reals values, int64_t count, int add) {
    Half spare[LANES] = {0}, *here = count < LANES ? spare : to;
    if (count < LANES && add) memcpy(spare, to, count * sizeof(Half));
    if (add) {
        Half rounded[LANES];
        put_halves(rounded, values);
        values = sum(widened(here), widened(rounded));
    }
    put_halves(here, values);
    if (count < LANES) memcpy(to, spare, count * sizeof(Half));
}

/* A run of `count` voxels from `logits` on into `sums`, with `weights`. */
static int run_of(const Tile *tile, float *room, int64_t logits, int64_t sums, const float *weights, int64_t count) {
    Reals most[RUN / LANES], weight[RUN / LANES];
    int64_t lanes = (count + LANES - 1) / LANES;
    int good = 1;
    if (tile->logit_steps[0] == 1 && tile->logit_steps[3] != 1) read_across(tile, room, logits, count);
    else
        for (int64_t k = 0; k < tile->classes; k++) read_run(tile, room + k * RUN, logits + k * tile->logit_steps[0], count);
    for (int64_t n = 0; n < lanes; n++) {
        most[n] = tile->exclusive ? reals(room + n * LANES) : every(0);
        weight[n] = weights ? reals(weights + n * LANES) : every(1);
        for (int64_t k = 1; k < tile->classes && tile->exclusive; k++) most[n] = larger(most[n], reals(room + k * RUN + n * LANES));
    }
    for (int64_t k = 0; k < tile->classes; k++)
        for (int64_t n = 0; n < lanes; n++) {
            Reals below = times(less(most[n], reals(room + k * RUN + n * LANES)), weight[n]);
            good &= within(below, tile->limit);
            Half *to = (Half *)tile->sums + sums + k * tile->sum_steps[0] + n * LANES;
            add_lanes(to, less(every(-0.0f), below), count - n * LANES < LANES ? count - n * LANES : LANES, weights != 0);
        }
    return good;
}

/* One row along z. */
static int row_of(const Tile *tile, float *room, int64_t x, int64_t y) {
    int64_t logits = x * tile->logit_steps[1] + y * tile->logit_steps[2], sums = x * tile->sum_steps[1] + y * tile->sum_steps[2];
    int good = 1;
    float weights[RUN] = {0};
    for (int64_t z = 0; z < tile->sides[2]; z += RUN) {
        int64_t count = tile->sides[2] - z < RUN ? tile->sides[2] - z : RUN;
        if (tile->weights[0]) {
            float here = tile->weights[0][x] * tile->weights[1][y];
            for (int64_t k = 0; k < count; k++) weights[k] = here * tile->weights[2][z + k];
        }
        good &= run_of(tile, room, logits + z * tile->logit_steps[3], sums + z, tile->weights[0] ? weights : 0, count);
    }
    return good;
}

static void rows(void *of, int64_t first, int64_t end) {
    Tile *tile = of;
    float *room = malloc(tile->classes * RUN * sizeof(float));
    int good = room != 0;
    for (int64_t k = first; k < end && good; k++) good = row_of(tile, room, k / tile->sides[1], k % tile->sides[1]);
    free(room);
    if (!good) __atomic_store_n(&tile->beyond, 1, __ATOMIC_RELAXED);
}

/* `tile`: addresses of sums, logits and three lines of weights (or none), then classes, sides, steps of sums, steps of logits, kind and
   whether classes exclude each other, each of 64 bits. `beyond` is 1 where a number is not finite or not below `limit`. */
void add_tile(const void *tile_, double limit, int64_t threads, void *beyond) {
    const int64_t *words = tile_;
    Tile tile = {.sums = (char *)words[0], .logits = (const char *)words[1], .classes = words[5], .kind = words[16],
                 .exclusive = words[17], .limit = (float)limit};
    for (int k = 0; k < 3; k++) {
        tile.weights[k] = (const float *)words[2 + k];
        tile.sides[k] = words[6 + k];
        tile.sum_steps[k] = words[9 + k];
    }
    for (int k = 0; k < 4; k++) tile.logit_steps[k] = words[12 + k];
    in_shares(rows, &tile, tile.sides[0] * tile.sides[1], threads);
    *(int64_t *)beyond = tile.beyond;
}
#endif
