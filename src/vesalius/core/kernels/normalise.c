/* Instance normalisation and the leaky ReLU behind it; see normalise.h. */
#include "normalise.h"
#include <math.h>

/* Sums of each place of a tile over `rows` tiles, and of the squared distances from their mean. */
INLINE void moments_of_rows(const Number *x, int64_t rows, int64_t step, float *sum, float *squares) {
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
    const Number *rest = of->x + rest_of(shape, of->sample);
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

INLINE void normalise_tile(const Number *x, Number *out, const Tables *by, float slope) {
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
    Number tile[TILE] = {0};
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

static void forward_of_sample(Work *of, int64_t threads) {
    in_shares(moments_of_blocks, of, of->shape.blocks, threads);
    finish_moments(of);
    finish_tables(of);
    in_shares(normalise_blocks, of, of->shape.blocks, threads);
    normalise_rest(of);
}

/* `out` is `x` (samples, voxels, channels) with each channel of each sample normalised, times `weight` and plus `bias` where there are
   such, and what is below 0 times `slope`; the `moments` are kept for the way back. */
void normalise_forward(const Number *x, Number *out, const float *weight, const float *bias, double *moments, float *room,
                       int64_t samples, int64_t voxels, int64_t channels, int64_t threads, double eps, float slope) {
    Work of = {.shape = shape_of(samples, voxels, channels), .x = x, .out = out, .weight = weight, .bias = bias,
               .moments = moments, .room = room, .eps = eps, .slope = slope, .one = forward_of_sample};
    every_sample(&of, threads);
}
