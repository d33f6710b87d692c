/* Instance normalisation and the leaky ReLU behind it, forward and backward, of maps in bfloat16, or in single precision
(normalise_single.c), whose channels lie together (nets/_normalise.py).

A sample is `voxels` times `channels` numbers in a row. It is read in tiles of 64 numbers; after `period` tiles the places of a tile mean
the same channels again, so whatever the number of channels, a place of a tile belongs to one channel. Tiles go in blocks of 128 for each
of the period; what is summed within a block is summed in single precision, blocks among each other in double precision and in their
order, so that a result depends neither on the size of a map nor on the number of threads.

Two numbers of 16 bits are read as one of 32 and taken apart in it, so sums and tables have of two registers first the numbers at even
places, then those at odd ones: `place_of` says where. In single precision they lie as they are. */
#ifndef NORMALISE_H
#define NORMALISE_H
#include "halves.h"
#include "parallel.h"

enum { TILE = 64, PARTS = TILE / WIDTH, PAIR = 2 * WIDTH, BLOCK = 128, TABLES = 5, DOUBLES = 3 };
enum { WORTH = 1 << 18 }; /* numbers that are worth another thread */

typedef struct {
    int64_t samples, voxels, channels;
    int64_t tiles, rest;            /* whole tiles of a sample, and the numbers behind the last one */
    int64_t period, lanes, blocks;  /* `lanes` = 64 period */
} Shape;

typedef struct Work {
    Shape shape;
    const Number *x, *grad; /* (samples, voxels, channels); `grad` of the result, for the way back */
    Number *out;            /* the same; may be `x` on the way there */
    const float *weight, *bias; /* (channels), or nothing */
    double *moments;          /* (samples, 2, channels): mean, and one over the deviation */
    float *room;              /* for each sample (2 blocks + 2 DOUBLES + TABLES) lanes */
    double eps;
    float slope;
    int64_t sample;           /* which one is worked on */
    void (*one)(struct Work *of, int64_t threads); /* works on that sample */
} Work;

static inline Shape shape_of(int64_t samples, int64_t voxels, int64_t channels) {
    int64_t numbers = voxels * channels, alike = channels & -channels; /* the power of two in it */
    Shape of = {.samples = samples, .voxels = voxels, .channels = channels, .tiles = numbers / TILE, .rest = numbers % TILE};
    of.period = channels / (alike < TILE ? alike : TILE);
    if (of.period > of.tiles + (of.rest > 0)) of.period = of.tiles + (of.rest > 0);
    of.lanes = of.period * TILE;
    of.blocks = (of.tiles + BLOCK * of.period - 1) / (BLOCK * of.period);
    return of;
}

static inline float *sums_of(const Work *of, int64_t sample) { /* (blocks, 2, lanes) */
    return of->room + sample * of->shape.lanes * (2 * of->shape.blocks + 2 * DOUBLES + TABLES);
}

static inline double *doubles_of(const Work *of, int64_t sample) { /* (DOUBLES, lanes) */
    return (double *)(sums_of(of, sample) + 2 * of->shape.blocks * of->shape.lanes);
}

static inline float *table_of(const Work *of, int64_t sample, int64_t which) { /* (lanes) */
    return (float *)(doubles_of(of, sample) + DOUBLES * of->shape.lanes) + which * of->shape.lanes;
}

/* How many tiles of a block have the place `turn` in the period. */
static inline int64_t rows_of(const Shape *of, int64_t block, int64_t turn) {
    int64_t left = of->tiles - block * BLOCK * of->period - turn;
    int64_t rows = left <= 0 ? 0 : (left + of->period - 1) / of->period;
    return rows < BLOCK ? rows : BLOCK;
}

/* The first number of those. */
static inline int64_t start_of(const Shape *of, int64_t sample, int64_t block, int64_t turn) {
    return sample * of->voxels * of->channels + (block * BLOCK * of->period + turn) * TILE;
}

/* The first number behind the last tile of a sample. */
static inline int64_t rest_of(const Shape *of, int64_t sample) { return sample * of->voxels * of->channels + of->tiles * TILE; }

/* Where the sums and tables have the number `k` of a sample. */
#ifdef SINGLE
static inline int64_t place_of(int64_t k) { return k; }
#else
static inline int64_t place_of(int64_t k) { return k - k % PAIR + k % PAIR / 2 + k % 2 * WIDTH; }
#endif

static inline void sort_doubles(double *lane, int64_t lanes) {
    double mixed[PAIR];
    for (int64_t from = 0; from < lanes; from += PAIR) {
        for (int k = 0; k < PAIR; k++) mixed[place_of(k)] = lane[from + k];
        memcpy(lane + from, mixed, sizeof mixed);
    }
}

static inline void unsort_doubles(double *lane, int64_t lanes) {
    double mixed[PAIR];
    for (int64_t from = 0; from < lanes; from += PAIR) {
        for (int k = 0; k < PAIR; k++) mixed[k] = lane[from + place_of(k)];
        memcpy(lane + from, mixed, sizeof mixed);
    }
}

/* A table of which the first `channels` are known, in the order in which it is used. */
static inline void finish_table(const Shape *of, float *table) {
    float mixed[PAIR];
    for (int64_t k = of->channels; k < of->lanes; k++) table[k] = table[k - of->channels];
    for (int64_t from = 0; from < of->lanes; from += PAIR) {
        for (int k = 0; k < PAIR; k++) mixed[place_of(k)] = table[from + k];
        memcpy(table + from, mixed, sizeof mixed);
    }
}

/* `lane` (lanes) of each channel for what is one number a channel. */
static inline void spread(const Shape *of, const double *channel, double *lane) {
    for (int64_t k = 0; k < of->lanes; k += of->channels) {
        int64_t left = of->lanes - k;
        memcpy(lane + k, channel, sizeof(double) * (left < of->channels ? left : of->channels));
    }
    sort_doubles(lane, of->lanes);
}

/* The first `channels` of `lane` become the sums over all places of a channel. */
static inline void gather(const Shape *of, double *lane) {
    unsort_doubles(lane, of->lanes);
    for (int64_t from = of->channels; from < of->lanes; from += of->channels)
        for (int64_t c = 0; c < of->channels && from + c < of->lanes; c++) lane[c] += lane[from + c];
}

#ifdef SINGLE
INLINE void widened_tile(const Number *from, Floats *tile) {
    for (int k = 0; k < PARTS; k++) tile[k] = numbers(from + k * WIDTH);
}

INLINE void narrowed_tile(Number *into, const Floats *tile) {
    for (int k = 0; k < PARTS; k++) put_numbers(into + k * WIDTH, tile[k]);
}
#else
INLINE void widened_tile(const Number *from, Floats *tile) {
    for (int k = 0; k < PARTS; k += 2) widened_apart(from + k * WIDTH, tile + k, tile + k + 1);
}

INLINE void narrowed_tile(Number *into, const Floats *tile) {
    for (int k = 0; k < PARTS; k += 2) narrowed_together(into + k * WIDTH, tile[k], tile[k + 1]);
}
#endif

/* The sum of each lane over all blocks: `which` 0 or 1. */
static inline void add_blocks(const Work *of, int64_t which, double *lane) {
    const Shape *shape = &of->shape;
    memset(lane, 0, sizeof(double) * shape->lanes);
    for (int64_t block = 0; block < shape->blocks; block++) {
        const float *sum = sums_of(of, of->sample) + (2 * block + which) * shape->lanes;
        for (int64_t k = 0; k < shape->lanes; k++) lane[k] += sum[k];
    }
}

/* Tables of each lane: a `centre`, from which numbers are counted, and `scale` and `shift` for what is left. */
static inline void finish_tables(const Work *of) {
    const Shape *shape = &of->shape;
    const double *moments = of->moments + 2 * of->sample * shape->channels;
    float *centre = table_of(of, of->sample, 0), *scale = table_of(of, of->sample, 1), *shift = table_of(of, of->sample, 2);
    for (int64_t c = 0; c < shape->channels; c++) {
        double factor = moments[shape->channels + c] * (of->weight ? of->weight[c] : 1);
        centre[c] = (float)moments[c];
        scale[c] = (float)factor;
        shift[c] = (float)((of->bias ? of->bias[c] : 0) - (moments[c] - centre[c]) * factor);
    }
    for (int64_t which = 0; which < 3; which++) finish_table(shape, table_of(of, of->sample, which));
}

typedef struct {
    Floats centre[PARTS], scale[PARTS], shift[PARTS], constant[PARTS], linear[PARTS];
} Tables;

INLINE void read_tables(const Work *of, int64_t turn, int64_t many, Tables *tables) {
    Floats *all[TABLES] = {tables->centre, tables->scale, tables->shift, tables->constant, tables->linear};
    for (int64_t which = 0; which < many; which++)
        memcpy(all[which], table_of(of, of->sample, which) + turn * TILE, sizeof tables->centre);
}

static inline void each_sample(void *given, int64_t first, int64_t end) {
    Work of = *(const Work *)given;
    for (of.sample = first; of.sample < end; of.sample++) of.one(&of, 1);
}

/* Threads share the samples, or where there are fewer the blocks of each. */
static inline void every_sample(Work *of, int64_t threads) {
    int64_t numbers = of->shape.voxels * of->shape.channels, most = 1 + of->shape.samples * numbers / WORTH;
    if (threads > most) threads = most;
    if (threads <= of->shape.samples) {
        in_shares(each_sample, of, of->shape.samples, threads);
        return;
    }
    if (threads > 1 + numbers / WORTH) threads = 1 + numbers / WORTH;
    for (of->sample = 0; of->sample < of->shape.samples; of->sample++)
        of->one(of, threads);
}

#endif
