/* What costs a map no more than to go over it: means of voxels, and sums of two maps with the leaky ReLU behind them. Maps in bfloat16, or
   in single precision (pointwise_single.c), channels together; each number that comes out is rounded once. */
#include "extent.h"
#include "halves.h"
#include "parallel.h"

enum { PIECE = 1 << 14 }; /* numbers of a sum that one thread takes at once */

typedef struct {
    const Number *from, *beside;
    Number *to;
    Extent extent;
    int64_t channels, count;
    float slope;
} Map;

/* To `to` the means of all that one voxel stands for, from `from` on; `row` and `plane`: numbers from one to the next. */
INLINE void mean(const Map *map, const Number *from, Number *to, int64_t row, int64_t plane) {
    const int64_t *step = map->extent.step;
    float places = (float)(step[0] * step[1] * step[2]);
    int64_t k = 0;
    for (; k + WIDTH <= map->channels; k += WIDTH) {
        Floats sum = {0};
        for (int64_t a = 0; a < step[0]; a++)
            for (int64_t b = 0; b < step[1]; b++)
                for (int64_t c = 0; c < step[2]; c++) sum += numbers(from + a * plane + b * row + c * map->channels + k);
        put_numbers(to + k, sum / places);
    }
    for (; k < map->channels; k++) {
        float sum = 0;
        for (int64_t a = 0; a < step[0]; a++)
            for (int64_t b = 0; b < step[1]; b++)
                for (int64_t c = 0; c < step[2]; c++) sum += single(from[a * plane + b * row + c * map->channels + k]);
        Number spare[WIDTH];
        put_numbers(spare, sum / places - (Floats){0});
        to[k] = spare[0];
    }
}

static void rows_of_means(void *of, int64_t first, int64_t end) {
    const Map *map = of;
    const int64_t *fine = map->extent.fine, *coarse = map->extent.coarse, *step = map->extent.step;
    int64_t row = fine[2] * map->channels, plane = fine[1] * row;
    for (int64_t n = first; n < end; n++) { /* rows of the result, through all samples */
        int64_t y = n % coarse[1], z = n / coarse[1] % coarse[0], sample = n / coarse[1] / coarse[0];
        const Number *from = map->from + (sample * fine[0] + z * step[0]) * plane + y * step[1] * row;
        Number *to = map->to + n * coarse[2] * map->channels;
        for (int64_t x = 0; x < coarse[2]; x++, from += step[2] * map->channels, to += map->channels) mean(map, from, to, row, plane);
    }
}

/* The map `to` (B, *coarse, channels) of the means of as many voxels of `from` (B, *fine, channels) as the steps of `extent` say, which is
   as direct_full.c has it; coarse voxels all lie within the fine map, and what else there is of that does not count. */
void mean_pool(const Number *from, Number *to, const int64_t *extent, int64_t channels, int64_t threads) {
    Map map = {.from = from, .to = to, .channels = channels};
    memcpy(&map.extent, extent, sizeof map.extent);
    in_shares(rows_of_means, &map, map.extent.batch * map.extent.coarse[0] * map.extent.coarse[1], threads);
}

INLINE void add(const Map *map, const Number *a, const Number *b, Number *to) {
    Floats sum = numbers(a) + numbers(b);
    put_numbers(to, leaky(sum, sum, map->slope));
}

static void pieces_of_sum(void *of, int64_t first, int64_t end) {
    const Map *map = of;
    int64_t at = first * PIECE, last = end * PIECE < map->count ? end * PIECE : map->count;
    for (; at + WIDTH <= last; at += WIDTH) add(map, map->from + at, map->beside + at, map->to + at);
    Number a[WIDTH] = {0}, b[WIDTH] = {0}; /* the rest */
    memcpy(a, map->from + at, (last - at) * sizeof *a);
    memcpy(b, map->beside + at, (last - at) * sizeof *b);
    add(map, a, b, a);
    memcpy(map->to + at, a, (last - at) * sizeof *a);
}

/* `count` sums of `a` and `b`, those not above 0 times `slope`; `to` may be one of them. */
void add_leaky(const Number *a, const Number *b, Number *to, int64_t count, float slope, int64_t threads) {
    Map map = {.from = a, .beside = b, .to = to, .count = count, .slope = slope};
    in_shares(pieces_of_sum, &map, (count + PIECE - 1) / PIECE, threads);
}
