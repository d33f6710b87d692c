/* Convolutions in single precision as they are, product by product, for any number of channels, sides and steps; those of 3 x 3 (x 3) in
   steps of one between many channels are faster by minimal filtering (winograd_full.c).

   Some rows of the result are worked on together, through all planes. The rows that they see are copied before, with zeros beyond the
   border, and kept for as many planes as the kernel sees; where it never reaches beyond the border they are read where they lie. Weights
   of more channels than a cache holds come in chunks, and all these rows take one chunk before the next. */
#include "direct_full.h"
#include "parallel.h"
#include <stdlib.h>

enum {
    ROOM = 1 << 18,  /* values of the input that are kept at once, */
    CHUNK = 1 << 15, /* weights that are taken at once, and */
    VOXELS = 512,    /* voxels of the result that are worked on together, about */
};

typedef struct {
    const float *from, *weights, *bias;
    float *to;
    Extent extent;
    int64_t in, made, copies;              /* channels; whether rows are copied */
    int64_t deep, tall, wide;              /* planes, rows and columns of the result that are worked on together */
    int64_t down, across, parts;           /* how many times a plane is divided, and the channels of the result */
    int64_t planes, rows, columns, length; /* of the input that are kept; the values of a row of the kernel */
    int32_t lacking;                       /* whether there was no memory: set by any thread */
} Map;

typedef struct {
    int64_t sample, top, bottom, left, right; /* rows and columns of the result */
    int64_t first, end;                       /* channels of the result */
    float *copied, *sums, *bias;              /* rows that are kept, sums that wait, all of the bias and zeros behind it */
} Column;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t parts_of(int64_t whole, int64_t part) { return (whole + part - 1) / part; }

/* How much of the input is kept for some of the result. */
static int64_t room_of(Map *map) {
    const Extent *of = &map->extent;
    map->planes = (map->deep - 1) * of->step[0] + of->side[0];
    map->rows = (map->tall - 1) * of->step[1] + of->side[1];
    map->columns = (map->wide - 1) * of->step[2] + of->side[2];
    return map->planes * map->rows * map->columns * map->in;
}

/* Makes `*side` larger by one, where that leaves room. */
static int grows(Map *map, int64_t *side, int64_t most) {
    int fits = ++*side <= most && map->deep * map->tall * map->wide <= VOXELS && room_of(map) <= ROOM;
    *side -= !fits;
    return fits;
}

/* Divides the work by its shape and, where that gives few shares, by the number of threads, on which no sum depends. */
static void divide(Map *map, int64_t threads) {
    const int64_t *sides = map->extent.coarse;
    map->deep = map->tall = 1;
    map->across = parts_of(sides[2], VOXELS), map->wide = parts_of(sides[2], map->across);
    while (map->wide > ROWS && room_of(map) > ROOM) map->wide = parts_of(sides[2], ++map->across);
    while (grows(map, &map->tall, sides[1])) continue;
    map->down = parts_of(sides[1], map->tall);
    map->tall = parts_of(sides[1], map->down);
    while (map->down * map->across == 1 && grows(map, &map->deep, sides[0])) continue;
    room_of(map);
    map->parts = smaller(parts_of(map->made, WIDE), parts_of(4 * threads, map->extent.batch * map->down * map->across));
    if (threads < 2) map->parts = 1;
}

/* Row `y` of plane `z` of the input from its first column on. */
static const float *row_of(const Map *map, int64_t sample, int64_t z, int64_t y) {
    const int64_t *fine = map->extent.fine;
    return map->from + ((sample * fine[0] + z) * fine[1] + y) * fine[2] * map->in;
}

static float *kept_row(const Map *map, const Column *column, int64_t z, int64_t y) {
    return column->copied + (z % map->planes * map->rows + y) * map->columns * map->in;
}

/* Copies what a column sees of plane `z`; rows beyond the border are left out. */
static void copy_plane(const Map *map, const Column *column, int64_t z) {
    const Extent *of = &map->extent;
    int64_t top = column->top * of->step[1] - of->pad[1], left = column->left * of->step[2] - of->pad[2];
    int64_t columns = (column->right - column->left - 1) * of->step[2] + of->side[2];
    int64_t before = left < 0 ? smaller(-left, columns) : 0, in = smaller(of->fine[2] - left - before, columns - before);
    in = in < 0 ? 0 : in;
    for (int64_t y = top < 0 ? -top : 0; y < map->rows && top + y < of->fine[1]; y++) {
        float *to = kept_row(map, column, z, y), *behind = to + (before + in) * map->in;
        memset(to, 0, before * map->in * sizeof *to);
        const float *from = row_of(map, column->sample, z, top + y) + (left + before) * map->in;
        if (in) memcpy(to + before * map->in, from, in * map->in * sizeof *to);
        memset(behind, 0, (columns - before - in) * map->in * sizeof *to);
    }
}

/* What row `y` of plane `z` of the result sees by rows `first` to `end` of the kernel. */
static void list(const Map *map, const Column *column, int64_t z, int64_t y, const float *weights, int64_t first, int64_t end,
                 Runs *runs) {
    const Extent *of = &map->extent;
    int64_t left = column->left * of->step[2] - of->pad[2];
    runs->count = 0;
    for (int64_t row = first; row < end; row++) {
        int64_t depth = seen(of, 0, z, row / of->side[1]), height = seen(of, 1, y, row % of->side[1]);
        if (depth < 0 || height < 0) continue;
        const float *from = map->copies ? kept_row(map, column, depth, height - column->top * of->step[1] + of->pad[1])
                                        : row_of(map, column->sample, depth, height) + left * map->in;
        runs->v[runs->count] = from;
        runs->u[runs->count++] = weights + row * map->length * BLOCK;
    }
}

/* Planes `z` to `end` of a column, some channels of the result from number `k` on. */
static void channels(const Map *map, const Column *column, int64_t z, int64_t end, int64_t k) {
    const Extent *of = &map->extent;
    int64_t lines = of->side[0] * of->side[1], together = CHUNK / (map->length * WIDE), wide = column->right - column->left;
    together = together > RUNS ? RUNS : together < 1 ? 1 : together;
    const float *weights = map->weights + k * lines * map->length;
    Runs runs = {.length = map->length, .apart = of->step[2] * map->in, .block = lines * map->length * BLOCK};
    Goal goal = {.bias = column->bias + k, .apart = map->made, .channels = smaller(map->made - k, WIDE)};
    int64_t chunks = parts_of(lines, together);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        goal.first = chunk == 0, goal.last = chunk == chunks - 1, goal.sums = column->sums;
        for (int64_t plane = z; plane < end; plane++)
            for (int64_t y = column->top; y < column->bottom; y++, goal.sums += wide * WIDE) {
                list(map, column, plane, y, weights, lines * chunk / chunks, lines * (chunk + 1) / chunks, &runs);
                int64_t row = (column->sample * of->coarse[0] + plane) * of->coarse[1] + y;
                goal.to = map->to + (row * of->coarse[2] + column->left) * map->made + k;
                along_row(&runs, &goal, wide);
            }
    }
}

/* Some channels of some rows of a sample, through all planes. */
static void through_planes(const Map *map, const Column *column) {
    const Extent *of = &map->extent;
    int64_t ready = 0; /* planes that were copied, or never will be */
    for (int64_t z = 0; z < of->coarse[0]; z += map->deep) {
        int64_t end = smaller(z + map->deep, of->coarse[0]), start = z * of->step[0] - of->pad[0];
        int64_t needed = smaller((end - 1) * of->step[0] - of->pad[0] + of->side[0], of->fine[0]);
        for (ready = ready > start ? ready : start; map->copies && ready < needed; ready++) copy_plane(map, column, ready);
        for (int64_t k = column->first; k < column->end; k += WIDE) channels(map, column, z, end, k);
    }
}

static void share(void *of, int64_t first, int64_t end) {
    Map *map = of;
    int64_t passes = parts_of(map->made, WIDE), sums = map->deep * map->tall * map->wide * WIDE;
    int64_t kept = map->copies ? parts_of(map->planes * map->rows * map->columns * map->in, BLOCK) : 0;
    Column column = {.bias = aligned_alloc(64, (passes * WIDE + sums + kept * BLOCK) * sizeof(float))};
    if (!column.bias) __atomic_store_n(&map->lacking, 1, __ATOMIC_RELAXED);
    if (!column.bias) return;
    memset(column.bias, 0, passes * WIDE * sizeof(float));
    if (map->bias) memcpy(column.bias, map->bias, map->made * sizeof(float));
    column.sums = column.bias + passes * WIDE, column.copied = column.sums + sums;
    for (int64_t n = first; n < end; n++) {
        int64_t part = n % map->parts, x = n / map->parts % map->across, y = n / map->parts / map->across % map->down;
        column.sample = n / map->parts / map->across / map->down;
        column.first = passes * part / map->parts * WIDE, column.end = smaller(passes * (part + 1) / map->parts * WIDE, map->made);
        column.top = y * map->tall, column.bottom = smaller(column.top + map->tall, map->extent.coarse[1]);
        column.left = map->extent.coarse[2] * x / map->across, column.right = map->extent.coarse[2] * (x + 1) / map->across;
        through_planes(map, &column);
    }
    free(column.bias);
}

/* Whether voxels of both maps see each other one by one. */
static int single_place(const Extent *of) {
    int one = 1;
    for (int axis = 0; axis < 3; axis++) one &= of->side[axis] == 1 && of->step[axis] == 1 && of->pad[axis] == 0;
    return one;
}

/* All of their voxels one behind the other. */
static void as_one_row(Extent *of) {
    int64_t voxels = of->batch * of->fine[0] * of->fine[1] * of->fine[2];
    of->batch = 1;
    for (int axis = 0; axis < 3; axis++) of->fine[axis] = of->coarse[axis] = axis == 2 ? voxels : 1;
}

/* The map `to` (B, *coarse, made) of `from` (B, *fine, in) by `weights` as `direct_full_weights` gives them, and a bias or none. `extent`:
   batch, and along each of three axes the fine sides, the coarse ones, those of the kernel, its steps, and zeros before the map. `done` is
   0 where there was no memory. */
void direct_full_down(const float *from, const float *weights, const float *bias, float *to, const int64_t *extent, int64_t in,
                      int64_t made, int64_t threads, int64_t *done) {
    Map map = {.from = from, .weights = weights, .bias = bias, .to = to, .in = in, .made = made};
    Extent *of = &map.extent;
    memcpy(of, extent, sizeof *of);
    if (single_place(of)) as_one_row(of);
    map.length = of->side[2] * in;
    map.copies = of->pad[2] > 0 || (of->coarse[2] - 1) * of->step[2] + of->side[2] > of->fine[2];
    divide(&map, threads);
    in_shares(share, &map, of->batch * map.down * map.across * map.parts, threads);
    *done = !map.lacking;
}

/* Weights (made, in, *sides), `strides` apart, as (made in blocks of 16, places, in, 16); channels that are lacking are zeros. */
void direct_full_weights(const float *weights, const int64_t *strides, float *to, int64_t made, int64_t in, const int64_t *extent) {
    Extent of;
    memcpy(&of, extent, sizeof of);
    for (int64_t k = 0; k < made; k += BLOCK)
        for (int64_t place = 0; place < places_of(&of); place++) {
            int64_t c = place % of.side[2], b = place / of.side[2] % of.side[1], a = place / of.side[2] / of.side[1];
            const float *from = weights + k * strides[0] + a * strides[2] + b * strides[3] + c * strides[4];
            for (int64_t j = 0; j < in; j++, to += BLOCK)
                for (int64_t lane = 0; lane < BLOCK; lane++) to[lane] = k + lane < made ? from[j * strides[1] + lane * strides[0]] : 0;
        }
}
