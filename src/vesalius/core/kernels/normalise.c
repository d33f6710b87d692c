/* Instance normalisation and the leaky ReLU behind it, forward and backward, of maps in bfloat16 whose channels lie together.

A sample is `voxels` times `channels` numbers in a row. It is read in tiles of 64 numbers; after `period` tiles the places of a tile mean
the same channels again, so whatever the number of channels, a place of a tile belongs to one channel. Tiles go in blocks of 128 for each
of the period; what is summed within a block is summed in single precision, blocks among each other in double precision and in their
order, so that a result depends neither on the size of a map nor on the number of threads.

Two numbers of 16 bits are read as one of 32 and taken apart in it, so sums and tables have of each 32 numbers first those at even places,
then those at odd ones: `place_of` says where. */
#include "halves.h"
#include "parallel.h"
#include <math.h>

enum { PARTS = 4, TILE = WIDTH * PARTS, BLOCK = 128, TABLES = 5, DOUBLES = 3 };
enum { WORTH = 1 << 18 }; /* numbers that are worth another thread */

typedef struct {
    int64_t samples, voxels, channels;
    int64_t tiles, rest;            /* whole tiles of a sample, and the numbers behind the last one */
    int64_t period, lanes, blocks;  /* `lanes` = 64 period */
} Shape;

typedef struct {
    Shape shape;
    const uint16_t *x, *grad; /* (samples, voxels, channels); `grad` of the result, for the way back */
    uint16_t *out;            /* the same; may be `x` on the way there */
    const float *weight, *bias; /* (channels), or nothing */
    double *moments;          /* (samples, 2, channels): mean, and one over the deviation */
    float *room;              /* for each sample (2 blocks + 2 DOUBLES + TABLES) lanes */
    double eps;
    float slope;
    int64_t sample; /* whose blocks are shared, where samples are not */
} Work;

/* `of`, or where `value` is not above 0 `slope` times that. */
INLINE Floats leaky(Floats value, Floats of, float slope) {
#ifdef __AVX512F__
    return (Floats)_mm512_mask_mul_ps((__m512)of, _mm512_cmp_ps_mask((__m512)value, _mm512_setzero_ps(), _CMP_NGT_UQ), (__m512)of,
                                      _mm512_set1_ps(slope));
#else
    Floats less = of * slope;
    Signs above = value > 0;
    return (Floats)(((Signs)of & above) | ((Signs)less & ~above));
#endif
}

/* ---- where things are ---- */

static Shape shape_of(int64_t samples, int64_t voxels, int64_t channels) {
    int64_t numbers = voxels * channels, alike = channels & -channels; /* the power of two in it */
    Shape of = {.samples = samples, .voxels = voxels, .channels = channels, .tiles = numbers / TILE, .rest = numbers % TILE};
    of.period = channels / (alike < TILE ? alike : TILE);
    if (of.period > of.tiles + (of.rest > 0)) of.period = of.tiles + (of.rest > 0);
    of.lanes = of.period * TILE;
    of.blocks = (of.tiles + BLOCK * of.period - 1) / (BLOCK * of.period);
    return of;
}

static float *sums_of(const Work *of, int64_t sample) { /* (blocks, 2, lanes) */
    return of->room + sample * of->shape.lanes * (2 * of->shape.blocks + 2 * DOUBLES + TABLES);
}

static double *doubles_of(const Work *of, int64_t sample) { /* (DOUBLES, lanes) */
    return (double *)(sums_of(of, sample) + 2 * of->shape.blocks * of->shape.lanes);
}

static float *table_of(const Work *of, int64_t sample, int64_t which) { /* (lanes) */
    return (float *)(doubles_of(of, sample) + DOUBLES * of->shape.lanes) + which * of->shape.lanes;
}

/* How many tiles of a block have the place `turn` in the period. */
static int64_t rows_of(const Shape *of, int64_t block, int64_t turn) {
    int64_t left = of->tiles - block * BLOCK * of->period - turn;
    int64_t rows = left <= 0 ? 0 : (left + of->period - 1) / of->period;
    return rows < BLOCK ? rows : BLOCK;
}

/* The first number of those. */
static int64_t start_of(const Shape *of, int64_t sample, int64_t block, int64_t turn) {
    return sample * of->voxels * of->channels + (block * BLOCK * of->period + turn) * TILE;
}

/* The first number behind the last tile of a sample. */
static int64_t rest_of(const Shape *of, int64_t sample) { return sample * of->voxels * of->channels + of->tiles * TILE; }

/* Where the sums and tables have the number `k` of a sample. */
static int64_t place_of(int64_t k) { return k - k % 32 + k % 32 / 2 + k % 2 * WIDTH; }

static void sort_doubles(double *lane, int64_t lanes) {
    double mixed[32];
    for (int64_t from = 0; from < lanes; from += 32) {
        for (int k = 0; k < 32; k++) mixed[place_of(k)] = lane[from + k];
        memcpy(lane + from, mixed, sizeof mixed);
    }
}

static void unsort_doubles(double *lane, int64_t lanes) {
    double mixed[32];
    for (int64_t from = 0; from < lanes; from += 32) {
        for (int k = 0; k < 32; k++) mixed[k] = lane[from + place_of(k)];
        memcpy(lane + from, mixed, sizeof mixed);
    }
}

/* A table of which the first `channels` are known, in the order in which it is used. */
static void finish_table(const Shape *of, float *table) {
    float mixed[32];
    for (int64_t k = of->channels; k < of->lanes; k++) table[k] = table[k - of->channels];
    for (int64_t from = 0; from < of->lanes; from += 32) {
        for (int k = 0; k < 32; k++) mixed[place_of(k)] = table[from + k];
        memcpy(table + from, mixed, sizeof mixed);
    }
}

/* `lane` (lanes) of each channel for what is one number a channel. */
static void spread(const Shape *of, const double *channel, double *lane) {
    for (int64_t k = 0; k < of->lanes; k += of->channels) {
        int64_t left = of->lanes - k;
        memcpy(lane + k, channel, sizeof(double) * (left < of->channels ? left : of->channels));
    }
    sort_doubles(lane, of->lanes);
}

/* The first `channels` of `lane` become the sums over all places of a channel. */
static void gather(const Shape *of, double *lane) {
    unsort_doubles(lane, of->lanes);
    for (int64_t from = of->channels; from < of->lanes; from += of->channels)
        for (int64_t c = 0; c < of->channels && from + c < of->lanes; c++) lane[c] += lane[from + c];
}

/* ---- there ---- */

INLINE void widened_tile(const uint16_t *from, Floats *tile) {
    for (int k = 0; k < PARTS; k += 2) widened_apart(from + k * WIDTH, tile + k, tile + k + 1);
}

INLINE void narrowed_tile(uint16_t *into, const Floats *tile) {
    for (int k = 0; k < PARTS; k += 2) narrowed_together(into + k * WIDTH, tile[k], tile[k + 1]);
}

/* Sums of each place of a tile over `rows` tiles, and of the squared distances from their mean. */
INLINE void moments_of_rows(const uint16_t *x, int64_t rows, int64_t step, float *sum, float *squares) {
    Floats total[PARTS] = {0}, mean[PARTS], away[PARTS] = {0}, tile[PARTS];
    for (int64_t row = 0; row < rows; row++) {
        widened_tile(x + row * step, tile);
        for (int k = 0; k < PARTS; k++) total[k] += tile[k];
    }
    for (int k = 0; k < PARTS; k++) mean[k] = total[k] / (float)(rows ? rows : 1);
    for (int64_t row = 0; row < rows; row++) {
        widened_tile(x + row * step, tile);
        for (int k = 0; k < PARTS; k++) away[k] += (tile[k] - mean[k]) * (tile[k] - mean[k]);
    }
    memcpy(sum, total, sizeof total);
    memcpy(squares, away, sizeof away);
}

static void moments_of_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Shape *shape = &of->shape;
    for (int64_t block = first; block < end; block++)
        for (int64_t turn = 0; turn < shape->period; turn++) {
            float *sum = sums_of(of, of->sample) + 2 * block * shape->lanes + turn * TILE;
            moments_of_rows(of->x + start_of(shape, of->sample, block, turn), rows_of(shape, block, turn), shape->lanes, sum,
                            sum + shape->lanes);
        }
}

/* The sum of each lane over all blocks: `which` 0 or 1. */
static void add_blocks(const Work *of, int64_t which, double *lane) {
    const Shape *shape = &of->shape;
    memset(lane, 0, sizeof(double) * shape->lanes);
    for (int64_t block = 0; block < shape->blocks; block++) {
        const float *sum = sums_of(of, of->sample) + (2 * block + which) * shape->lanes;
        for (int64_t k = 0; k < shape->lanes; k++) lane[k] += sum[k];
    }
}

/* To `lane` what the means of blocks are away from those of their channels. */
static void add_between(const Work *of, const double *mean, double *lane) {
    const Shape *shape = &of->shape;
    for (int64_t block = 0; block < shape->blocks; block++)
        for (int64_t turn = 0; turn < shape->period; turn++) {
            double rows = rows_of(shape, block, turn);
            const float *sum = sums_of(of, of->sample) + 2 * block * shape->lanes;
            for (int64_t k = turn * TILE; rows && k < (turn + 1) * TILE; k++) {
                double off = sum[k] / rows - mean[k];
                lane[k] += rows * off * off;
            }
        }
}

/* The moments of a sample of the sums of its blocks. */
static void finish_moments(const Work *of) {
    const Shape *shape = &of->shape;
    double *sum = doubles_of(of, of->sample), *mean = sum + shape->lanes, *squares = mean + shape->lanes;
    double *moments = of->moments + 2 * of->sample * shape->channels;
    const uint16_t *rest = of->x + rest_of(shape, of->sample);
    int64_t place = shape->tiles % shape->period * TILE;
    add_blocks(of, 0, sum);
    for (int64_t k = 0; k < shape->rest; k++) sum[place + place_of(k)] += single(rest[k]);
    gather(shape, sum);
    for (int64_t c = 0; c < shape->channels; c++) moments[c] = sum[c] / shape->voxels;
    spread(shape, moments, mean);
    add_blocks(of, 1, squares);
    add_between(of, mean, squares);
    for (int64_t k = 0; k < shape->rest; k++) {
        double off = single(rest[k]) - mean[place + place_of(k)];
        squares[place + place_of(k)] += off * off;
    }
    gather(shape, squares);
    for (int64_t c = 0; c < shape->channels; c++) moments[shape->channels + c] = 1 / sqrt(squares[c] / shape->voxels + of->eps);
}

/* Tables of each lane: a `centre`, from which numbers are counted, and `scale` and `shift` for what is left. */
static void finish_tables(const Work *of) {
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

INLINE void normalise_tile(const uint16_t *x, uint16_t *out, const Tables *by, float slope) {
    Floats tile[PARTS];
    widened_tile(x, tile);
    for (int k = 0; k < PARTS; k++) {
        Floats value = (tile[k] - by->centre[k]) * by->scale[k] + by->shift[k];
        tile[k] = leaky(value, value, slope);
    }
    narrowed_tile(out, tile);
}

static void normalise_rest(const Work *of) {
    const Shape *shape = &of->shape;
    uint16_t tile[TILE] = {0};
    int64_t at = rest_of(shape, of->sample);
    Tables by;
    read_tables(of, shape->tiles % shape->period, 3, &by);
    memcpy(tile, of->x + at, sizeof *tile * shape->rest);
    normalise_tile(tile, tile, &by, of->slope);
    memcpy(of->out + at, tile, sizeof *tile * shape->rest);
}

static void normalise_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Shape *shape = &of->shape;
    for (int64_t block = first; block < end; block++)
        for (int64_t turn = 0; turn < shape->period; turn++) {
            int64_t rows = rows_of(shape, block, turn), start = start_of(shape, of->sample, block, turn);
            Tables by;
            read_tables(of, turn, 3, &by);
            for (int64_t row = 0; row < rows; row++, start += shape->lanes)
                normalise_tile(of->x + start, of->out + start, &by, of->slope);
        }
}

/* ---- back ---- */

/* The slopes at the result before it was cut off, and how far the input is from its centre. */
INLINE void through(const uint16_t *x, const uint16_t *grad, const Tables *by, float slope, Floats *off, Floats *inner) {
    widened_tile(x, off);
    widened_tile(grad, inner);
    for (int k = 0; k < PARTS; k++) {
        off[k] -= by->centre[k];
        inner[k] = leaky(off[k] * by->scale[k] + by->shift[k], inner[k], slope);
    }
}

INLINE void slopes_of_rows(const uint16_t *x, const uint16_t *grad, int64_t rows, int64_t step, const Tables *by, float slope, float *sums,
                           float *products) {
    Floats sum[PARTS] = {0}, product[PARTS] = {0}, off[PARTS], inner[PARTS];
    for (int64_t row = 0; row < rows; row++) {
        through(x + row * step, grad + row * step, by, slope, off, inner);
        for (int k = 0; k < PARTS; k++) {
            sum[k] += inner[k];
            product[k] += inner[k] * off[k];
        }
    }
    memcpy(sums, sum, sizeof sum);
    memcpy(products, product, sizeof product);
}

static void slopes_of_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Shape *shape = &of->shape;
    for (int64_t block = first; block < end; block++)
        for (int64_t turn = 0; turn < shape->period; turn++) {
            float *sums = sums_of(of, of->sample) + 2 * block * shape->lanes + turn * TILE;
            int64_t start = start_of(shape, of->sample, block, turn);
            Tables by;
            read_tables(of, turn, 3, &by);
            slopes_of_rows(of->x + start, of->grad + start, rows_of(shape, block, turn), shape->lanes, &by, of->slope, sums,
                           sums + shape->lanes);
        }
}

/* To `sum` and `product` (lanes) what the numbers behind the last tile give. */
static void add_rest(const Work *of, double *sum, double *product) {
    const Shape *shape = &of->shape;
    uint16_t x[TILE] = {0}, grad[TILE] = {0};
    float sums[TILE], products[TILE];
    int64_t at = rest_of(shape, of->sample), turn = shape->tiles % shape->period;
    Tables by;
    read_tables(of, turn, 3, &by);
    memcpy(x, of->x + at, sizeof *x * shape->rest);
    memcpy(grad, of->grad + at, sizeof *grad * shape->rest);
    slopes_of_rows(x, grad, 1, TILE, &by, of->slope, sums, products);
    for (int64_t k = 0; k < TILE; k++) { /* zeros where there is no number */
        sum[turn * TILE + k] += sums[k];
        product[turn * TILE + k] += products[k];
    }
}

/* The gradients of bias and weight that a sample gives are left in the first two doubles of each channel; two more tables say what is
   taken from the slope at each number: a `constant`, and so much for each step away from the centre (`linear`). */
static void finish_slopes(const Work *of) {
    const Shape *shape = &of->shape;
    const double *moments = of->moments + 2 * of->sample * shape->channels;
    double *sum = doubles_of(of, of->sample), *product = sum + shape->lanes;
    float *constant = table_of(of, of->sample, 3), *linear = table_of(of, of->sample, 4);
    add_blocks(of, 0, sum);
    add_blocks(of, 1, product);
    add_rest(of, sum, product);
    gather(shape, sum);
    gather(shape, product);
    for (int64_t c = 0; c < shape->channels; c++) {
        double one = moments[shape->channels + c], factor = one * (of->weight ? of->weight[c] : 1);
        double behind = moments[c] - (float)moments[c]; /* the centre is the mean in single precision */
        product[c] = (product[c] - behind * sum[c]) * one;
        double away = factor * one * product[c] / shape->voxels;
        linear[c] = (float)-away;
        constant[c] = (float)(away * behind - factor * sum[c] / shape->voxels);
    }
    finish_table(shape, constant);
    finish_table(shape, linear);
}

INLINE void slope_of_tile(const uint16_t *x, const uint16_t *grad, uint16_t *out, const Tables *by, float slope) {
    Floats off[PARTS], inner[PARTS];
    through(x, grad, by, slope, off, inner);
    for (int k = 0; k < PARTS; k++) inner[k] = inner[k] * by->scale[k] + (off[k] * by->linear[k] + by->constant[k]);
    narrowed_tile(out, inner);
}

static void slope_of_rest(const Work *of) {
    const Shape *shape = &of->shape;
    uint16_t x[TILE] = {0}, grad[TILE] = {0};
    int64_t at = rest_of(shape, of->sample);
    Tables by;
    read_tables(of, shape->tiles % shape->period, TABLES, &by);
    memcpy(x, of->x + at, sizeof *x * shape->rest);
    memcpy(grad, of->grad + at, sizeof *grad * shape->rest);
    slope_of_tile(x, grad, x, &by, of->slope);
    memcpy(of->out + at, x, sizeof *x * shape->rest);
}

static void slope_of_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    const Shape *shape = &of->shape;
    for (int64_t block = first; block < end; block++)
        for (int64_t turn = 0; turn < shape->period; turn++) {
            int64_t rows = rows_of(shape, block, turn), start = start_of(shape, of->sample, block, turn);
            Tables by;
            read_tables(of, turn, TABLES, &by);
            for (int64_t row = 0; row < rows; row++, start += shape->lanes)
                slope_of_tile(of->x + start, of->grad + start, of->out + start, &by, of->slope);
        }
}

/* ---- a sample, and all of them ---- */

static void forward_of_sample(Work *of, int64_t threads) {
    in_shares(moments_of_blocks, of, of->shape.blocks, threads);
    finish_moments(of);
    finish_tables(of);
    in_shares(normalise_blocks, of, of->shape.blocks, threads);
    normalise_rest(of);
}

static void backward_of_sample(Work *of, int64_t threads) {
    finish_tables(of);
    in_shares(slopes_of_blocks, of, of->shape.blocks, threads);
    finish_slopes(of);
    in_shares(slope_of_blocks, of, of->shape.blocks, threads);
    slope_of_rest(of);
}

static void each_sample(void *given, int64_t first, int64_t end) {
    Work of = *(const Work *)given;
    for (of.sample = first; of.sample < end; of.sample++) (of.grad ? backward_of_sample : forward_of_sample)(&of, 1);
}

/* Threads share the samples, or where there are fewer the blocks of each. */
static void every_sample(Work *of, int64_t threads) {
    int64_t numbers = of->shape.voxels * of->shape.channels, most = 1 + of->shape.samples * numbers / WORTH;
    if (threads > most) threads = most;
    if (threads <= of->shape.samples) {
        in_shares(each_sample, of, of->shape.samples, threads);
        return;
    }
    if (threads > 1 + numbers / WORTH) threads = 1 + numbers / WORTH;
    for (of->sample = 0; of->sample < of->shape.samples; of->sample++)
        (of->grad ? backward_of_sample : forward_of_sample)(of, threads);
}

/* `out` is `x` (samples, voxels, channels) with each channel of each sample normalised, times `weight` and plus `bias` where there are
   such, and what is below 0 times `slope`; the `moments` are kept for the way back. */
void normalise_forward(const uint16_t *x, uint16_t *out, const float *weight, const float *bias, double *moments, float *room,
                       int64_t samples, int64_t voxels, int64_t channels, int64_t threads, double eps, float slope) {
    Work of = {.shape = shape_of(samples, voxels, channels), .x = x, .out = out, .weight = weight, .bias = bias,
               .moments = moments, .room = room, .eps = eps, .slope = slope};
    every_sample(&of, threads);
}

/* `out` is the gradient at `x` of what has the gradient `grad` at the result; `slopes` (2, channels) those at weight and bias. */
void normalise_backward(const uint16_t *x, const uint16_t *grad, uint16_t *out, const float *weight, const float *bias, double *moments,
                        float *room, float *slopes, int64_t samples, int64_t voxels, int64_t channels, int64_t threads, float slope) {
    Work of = {.shape = shape_of(samples, voxels, channels), .x = x, .grad = grad, .out = out, .weight = weight, .bias = bias,
               .moments = moments, .room = room, .slope = slope};
    every_sample(&of, threads);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, product = 0;
        for (int64_t sample = 0; sample < samples; sample++) {
            sum += doubles_of(&of, sample)[c];
            product += doubles_of(&of, sample)[of.shape.lanes + c];
        }
        slopes[c] = (float)product;
        slopes[channels + c] = (float)sum;
    }
}
