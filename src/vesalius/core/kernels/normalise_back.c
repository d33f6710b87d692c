/* The way back through instance normalisation and the leaky ReLU behind it; see normalise.h. */
#include "normalise.h"

/* The slopes at the result before it was cut off, and how far the input is from its centre. */
INLINE void through(const Number *x, const Number *grad, const Tables *by, float slope, Floats *off, Floats *inner) {
    widened_tile(x, off);
    widened_tile(grad, inner);
    for (int k = 0; k < PARTS; k++) {
        off[k] -= by->centre[k];
        inner[k] = leaky(off[k] * by->scale[k] + by->shift[k], inner[k], slope);
    }
}

INLINE void slopes_of_rows(const Number *x, const Number *grad, int64_t rows, int64_t step, const Tables *by, float slope, float *sums,
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
    Number x[TILE] = {0}, grad[TILE] = {0};
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

INLINE void slope_of_tile(const Number *x, const Number *grad, Number *out, const Tables *by, float slope) {
    Floats off[PARTS], inner[PARTS];
    through(x, grad, by, slope, off, inner);
    for (int k = 0; k < PARTS; k++) inner[k] = inner[k] * by->scale[k] + (off[k] * by->linear[k] + by->constant[k]);
    narrowed_tile(out, inner);
}

static void slope_of_rest(const Work *of) {
    const Shape *shape = &of->shape;
    Number x[TILE] = {0}, grad[TILE] = {0};
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

static void backward_of_sample(Work *of, int64_t threads) {
    finish_tables(of);
    in_shares(slopes_of_blocks, of, of->shape.blocks, threads);
    finish_slopes(of);
    in_shares(slope_of_blocks, of, of->shape.blocks, threads);
    slope_of_rest(of);
}

/* `out` is the gradient at `x` of what has the gradient `grad` at the result; `slopes` (2, channels) those at weight and bias. */
void normalise_backward(const Number *x, const Number *grad, Number *out, const float *weight, const float *bias, double *moments,
                        float *room, float *slopes, int64_t samples, int64_t voxels, int64_t channels, int64_t threads, float slope) {
    Work of = {.shape = shape_of(samples, voxels, channels), .x = x, .grad = grad, .out = out, .weight = weight, .bias = bias,
               .moments = moments, .room = room, .slope = slope, .one = backward_of_sample};
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
