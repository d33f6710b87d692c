/* Logits of a tile added to the sums of a volume, weighed by a product of three lines, as engine/rolling.py says (called by engine/cells.py):
   float16 sums (classes, x, y, z) of how far a class is below the largest of its voxel. Tiles come as a network leaves them, float32 or
   bfloat16, classes before voxels or behind them. */
#include "lanes.h"
#include "parallel.h"
#include <stdlib.h>

#ifdef HAS_LANES
enum { FLOAT = 0, ROOM = 1 << 16, LONGEST = 1 << 12 }; /* numbers of all classes that are worked on at once, and voxels at the most */

typedef struct {
    Half *sums;
    const char *logits;
    const float *weights[3]; /* of x, y and z; none where no other tile is */
    int64_t classes, sides[3];
    int64_t sum_steps[3], logit_steps[4]; /* of classes, x and y, in numbers; and of z */
    int64_t kind, exclusive;
    float limit;
    int32_t beyond, lacking; /* whether a number was, and whether there was no memory: set by any thread */
    int64_t wide, lines; /* numbers of a line along z, whole registers; and lines that are worked on at once */
} Tile;

/* Where a run of lines is worked on: `values` (classes, lines, wide), `most` and `weight` (lines, wide). */
typedef struct {
    float *values, *most, *weight;
    int64_t run;
} Room;

static inline float widest(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* One line of logits of a class, as float32; what follows them in their last register is zeros. */
static inline void read_line(const Tile *tile, float *restrict to, int64_t from) {
    int64_t count = tile->sides[2], step = tile->logit_steps[3], z = 0;
    const float *given = (const float *)tile->logits + from;
    const uint16_t *short_given = (const uint16_t *)tile->logits + from;
    if (tile->kind == FLOAT && step == 1) {
        for (; z + LANES <= count; z += LANES) put(to + z, reals(given + z));
        if (z < count) put(to + z, some_reals(given + z, count - z));
    } else if (tile->kind == FLOAT)
        for (; z < count; z++) to[z] = given[z * step];
    else if (step == 1)
        for (; z < count; z++) to[z] = widest(short_given[z]);
    else
        for (; z < count; z++) to[z] = widest(short_given[z * step]);
}

/* One line of all classes, where these lie together: voxel by voxel. */
static void read_across(const Tile *tile, float *to, int64_t run, int64_t from) {
    for (int64_t z = 0; z < tile->sides[2]; z++, from += tile->logit_steps[3])
        if (tile->kind == FLOAT)
            for (int64_t k = 0; k < tile->classes; k++) to[k * run + z] = ((const float *)tile->logits)[from + k];
        else
            for (int64_t k = 0; k < tile->classes; k++) to[k * run + z] = widest(((const uint16_t *)tile->logits)[from + k]);
}

/* The largest so far of each of `numbers`. */
static inline void lead(float *most, const float *values, int64_t numbers) {
    for (int64_t n = 0; n < numbers; n += LANES) put(most + n, larger(reals(most + n), reals(values + n)));
}

/* Logits of the lines `y` ... `stop` at `x` into the room, and the largest at each voxel; zeros where classes do not exclude each other. */
static void read_lines(const Tile *tile, const Room *room, int64_t x, int64_t y, int64_t stop) {
    int64_t lines = stop - y, from = x * tile->logit_steps[1] + y * tile->logit_steps[2];
    int together = tile->logit_steps[0] == 1 && tile->logit_steps[3] != 1;
    for (int64_t n = 0; n < lines && together; n++) read_across(tile, room->values + n * tile->wide, room->run, from + n * tile->logit_steps[2]);
    for (int64_t k = 0; k < tile->classes; k++) {
        float *values = room->values + k * room->run;
        for (int64_t n = 0; n < lines && !together; n++)
            read_line(tile, values + n * tile->wide, from + k * tile->logit_steps[0] + n * tile->logit_steps[2]);
        if (tile->exclusive && k) lead(room->most, values, lines * tile->wide);
        else if (tile->exclusive) memcpy(room->most, values, lines * tile->wide * sizeof(float));
    }
}

static void weigh(const Tile *tile, const Room *room, int64_t x, int64_t y, int64_t stop) {
    if (!tile->weights[0]) return;
    for (int64_t n = 0; n < stop - y; n++) {
        float here = tile->weights[0][x] * tile->weights[1][y + n];
        for (int64_t z = 0; z < tile->sides[2]; z++) room->weight[n * tile->wide + z] = here * tile->weights[2][z];
    }
}

/* How far a register of values is below the largest, negative: what is added to sums. */
static inline Reals depth(const Tile *tile, const Room *room, const float *values, int64_t place, const int add, int *good) {
    Reals below = less(reals(room->most + place), reals(values + place));
    if (add) below = times(below, reals(room->weight + place));
    *good &= within(below, tile->limit);
    return less(every(-0.0f), below);
}

/* One line of a class into its sums; whether all of it was within the limit. */
static inline int line_of(const Tile *tile, const Room *room, const float *values, Half *to, int64_t place, const int add) {
    int good = 1;
    int64_t z = 0, left = tile->sides[2] % LANES;
    for (; z + LANES <= tile->sides[2]; z += LANES) {
        Reals here = depth(tile, room, values, place + z, add, &good);
        put_halves(to + z, add ? sum(widened(to + z), rounded(here)) : here);
    }
    if (left) {
        Reals here = depth(tile, room, values, place + z, add, &good);
        put_some_halves(to + z, add ? sum(some_widened(to + z, left), rounded(here)) : here, left);
    }
    return good;
}

/* The lines `y` ... `stop` at `x`, of all classes. */
static int lines_of(const Tile *tile, const Room *room, int64_t x, int64_t y, int64_t stop) {
    int good = 1;
    read_lines(tile, room, x, y, stop);
    weigh(tile, room, x, y, stop);
    for (int64_t k = 0; k < tile->classes; k++) {
        Half *to = tile->sums + k * tile->sum_steps[0] + x * tile->sum_steps[1] + y * tile->sum_steps[2];
        const float *values = room->values + k * room->run;
        for (int64_t n = 0; n < stop - y; n++, to += tile->sum_steps[2])
            good &= tile->weights[0] ? line_of(tile, room, values, to, n * tile->wide, 1) : line_of(tile, room, values, to, n * tile->wide, 0);
    }
    return good;
}

/* Runs of lines `first` ... `end`, of which each x has as many. */
static void runs(void *of, int64_t first, int64_t end) {
    Tile *tile = of;
    int64_t each = (tile->sides[1] + tile->lines - 1) / tile->lines;
    Room room = {.run = tile->lines * tile->wide};
    room.values = calloc((tile->classes + 2) * room.run, sizeof(float));
    if (!room.values) {
        __atomic_store_n(&tile->lacking, 1, __ATOMIC_RELAXED);
        return;
    }
    int good = 1;
    room.most = room.values + tile->classes * room.run;
    room.weight = room.most + room.run;
    for (int64_t k = first; k < end && good; k++) {
        int64_t y = k % each * tile->lines, stop = y + tile->lines;
        good = lines_of(tile, &room, k / each, y, stop < tile->sides[1] ? stop : tile->sides[1]);
    }
    free(room.values);
    if (!good) __atomic_store_n(&tile->beyond, 1, __ATOMIC_RELAXED);
}

/* `tile`: addresses of sums, logits and three lines of weights (or none), then classes, sides, steps of sums, steps of logits, kind and
   whether classes exclude each other, each of 64 bits, none of them without numbers. `beyond` is 1 where a number is not finite or not
   below `limit`, 2 where there was no memory. */
void add_tile(const void *tile_, double limit, int64_t threads, void *beyond) {
    const int64_t *words = tile_;
    Tile tile = {.sums = (Half *)words[0], .logits = (const char *)words[1], .classes = words[5], .kind = words[16],
                 .exclusive = words[17], .limit = (float)limit};
    for (int k = 0; k < 3; k++) {
        tile.weights[k] = (const float *)words[2 + k];
        tile.sides[k] = words[6 + k];
        tile.sum_steps[k] = words[9 + k];
    }
    for (int k = 0; k < 4; k++) tile.logit_steps[k] = words[12 + k];
    tile.wide = (tile.sides[2] + LANES - 1) / LANES * LANES;
    int64_t numbers = ROOM / tile.classes < LONGEST ? ROOM / tile.classes : LONGEST;
    tile.lines = numbers / tile.wide < 1 ? 1 : numbers / tile.wide;
    if (tile.lines > tile.sides[1]) tile.lines = tile.sides[1];
    in_shares(runs, &tile, tile.sides[0] * ((tile.sides[1] + tile.lines - 1) / tile.lines), threads);
    *(int64_t *)beyond = tile.lacking ? 2 : tile.beyond;
}
#endif
