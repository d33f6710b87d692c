/* What the soft Dice and the cross entropy of classes that exclude each other need of logits, and the gradient at them, without a map of
probabilities (losses/_soft_counts.py).

Logits in bfloat16, or in single precision (soft_counts_single.c), lie where their strides say; `target` (samples, voxels) are classes, 255
is ignored. As many voxels as a register holds are worked on at a time, with a softmax in single precision; sums of a few dozen in each
place of a register are added in double precision and in their order. */
#include "halves.h"
#include "parallel.h"

enum { BLOCK = 4096, CHUNK = 64, MOST = 255, SUMS = 4, FEW = 64, IGNORE = 255 };

typedef uint8_t Bytes __attribute__((vector_size(WIDTH)));

typedef struct {
    const Number *logits;
    const uint8_t *target;
    double *sums;          /* (samples, blocks, SUMS, classes), on the way there */
    const float *slopes;   /* (samples, SUMS, classes), on the way back */
    Number *out;         /* as the logits, on the way back */
    int64_t voxels, classes, blocks;
    int64_t sample_step, class_step, voxel_step;
} Work;

INLINE Floats chosen(Floats value, Signs where) { return (Floats)((Signs)value & where); }

INLINE Floats either(Signs where, Floats value, Floats other) { return (Floats)(((Signs)value & where) | ((Signs)other & ~where)); }

INLINE Floats all(float value) { return value - (Floats){0}; }

/* exp of what is not above 0: powers of two, and a polynomial for what is left (Moshier, Cephes). */
INLINE Floats exponential(Floats x) {
    const float shift = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded to whole numbers */
    x = either(x < -87.0f, all(-87.0f), x);
    Floats moved = x * 1.44269504f + shift, whole = moved - shift;
    Floats r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * (Floats)(((Signs)moved - 0x4b400000 + 127) << 23);
}

/* log of what is at least 1 (as above); what is not a number stays none. */
INLINE Floats logarithm(Floats x) {
    Signs bits = (Signs)x;
    Floats power = __builtin_convertvector((bits >> 23) - 126, Floats), m = (Floats)((bits & 0x7fffff) | 0x3f000000);
    Signs small = m < 0.707106781f;
    power -= chosen(all(1.0f), small);
    m = m + chosen(m, small) - 1.0f;
    Floats square = m * m, y = m * 7.0376836292e-2f - 1.1514610310e-1f;
    y = y * m + 1.1676998740e-1f;
    y = y * m - 1.2420140846e-1f;
    y = y * m + 1.4249322787e-1f;
    y = y * m - 1.6668057665e-1f;
    y = y * m + 2.0000714765e-1f;
    y = y * m - 2.4999993993e-1f;
    y = y * m + 3.3333331174e-1f;
    y = y * m * square - power * 2.12194440e-4f - square * 0.5f;
    return m + y + power * 0.693359375f + (x - x);
}

/* ---- some voxels at a time ---- */

typedef struct {
    int64_t sample, voxel, many;    /* which voxels */
    Number logits[MOST][CHUNK];   /* class by class */
    uint8_t classes[CHUNK];
} Chunk;

typedef struct {
    Floats p[MOST], away[MOST]; /* probabilities, and logits as far as they are below the largest */
    Floats entropy;             /* log of the sum of exp(away) */
    Signs class, valid;
} Group;

/* `many` logits of each of some classes, which lie apart or together, class by class. */
INLINE void sort(const Number *from, Number *into, int64_t classes, int64_t many, int64_t class_step, int64_t step) {
    for (int64_t c = 0; c < classes; c++)
        for (int64_t k = 0; k < many; k++) into[c * CHUNK + k] = from[c * class_step + k * step];
}

static void read_chunk(const Work *of, Chunk *chunk) {
    const Number *from = of->logits + chunk->sample * of->sample_step + chunk->voxel * of->voxel_step;
    memset(chunk->classes, IGNORE, sizeof chunk->classes);
    memcpy(chunk->classes, of->target + chunk->sample * of->voxels + chunk->voxel, chunk->many);
    if (chunk->many < CHUNK)
        sort(from, chunk->logits[0], of->classes, chunk->many, of->class_step, of->voxel_step);
    else if (of->classes == 2 && of->class_step == 1)
        sort(from, chunk->logits[0], 2, CHUNK, 1, 2);
    else if (of->classes == 3 && of->class_step == 1)
        sort(from, chunk->logits[0], 3, CHUNK, 1, 3);
    else
        sort(from, chunk->logits[0], of->classes, CHUNK, of->class_step, of->voxel_step);
}

/* Writes what a chunk now holds to where the logits of the result are. */
static void write_chunk(const Work *of, const Chunk *chunk) {
    Number *into = of->out + chunk->sample * of->sample_step + chunk->voxel * of->voxel_step;
    for (int64_t c = 0; c < of->classes; c++)
        for (int64_t k = 0; k < chunk->many; k++) into[c * of->class_step + k * of->voxel_step] = chunk->logits[c][k];
}

/* Puts a chunk to the start of a block; the first voxel behind the block. */
static int64_t first_of(const Work *of, int64_t block, Chunk *chunk) {
    chunk->sample = block / of->blocks;
    chunk->voxel = block % of->blocks * BLOCK;
    return chunk->voxel + BLOCK < of->voxels ? chunk->voxel + BLOCK : of->voxels;
}

/* The softmax of a register full of voxels of a chunk. */
INLINE void read_group(const Chunk *chunk, int64_t at, int64_t classes, Group *group) {
    Floats largest = all(-__builtin_inff()), sum = {0};
    Bytes class;
    memcpy(&class, chunk->classes + at, sizeof class);
    group->class = __builtin_convertvector(class, Signs);
    group->valid = group->class != IGNORE;
    for (int64_t c = 0; c < classes; c++) {
        group->away[c] = numbers(chunk->logits[c] + at);
        largest = either(group->away[c] > largest, group->away[c], largest);
    }
    for (int64_t c = 0; c < classes; c++) {
        group->away[c] -= largest;
        group->p[c] = exponential(group->away[c]);
        sum += group->p[c];
    }
    group->entropy = logarithm(sum);
    Floats part = 1.0f / sum;
    for (int64_t c = 0; c < classes; c++) group->p[c] *= part;
}

/* ---- there ---- */

/* To the sums of every class what a group gives: probability in the class, probability, voxels in the class, and their cross entropy. */
INLINE void count_group(const Group *group, int64_t classes, Floats *sums) {
    for (int64_t c = 0; c < classes; c++) {
        Signs inside = group->class == (int32_t)c;
        sums[c] += chosen(group->p[c], inside);
        sums[classes + c] += chosen(group->p[c], group->valid);
        sums[2 * classes + c] += chosen(all(1.0f), inside);
        sums[3 * classes + c] += chosen(group->entropy - group->away[c], inside);
    }
}

/* Adds what each of `many` registers holds to `to`, and empties them. */
static void pour(Floats *sums, int64_t many, double *to) {
    for (int64_t k = 0; k < many; k++) {
        double sum = 0;
        for (int lane = 0; lane < WIDTH; lane++) sum += sums[k][lane];
        to[k] += sum;
        sums[k] = (Floats){0};
    }
}

static void count_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    Floats sums[SUMS * MOST];
    Chunk chunk = {0};
    Group group;
    for (int64_t block = first; block < end; block++) {
        int64_t last = first_of(of, block, &chunk);
        double *whole = of->sums + block * SUMS * of->classes;
        memset(sums, 0, sizeof *sums * SUMS * of->classes);
        memset(whole, 0, sizeof *whole * SUMS * of->classes);
        for (; chunk.voxel < last; chunk.voxel += CHUNK) {
            chunk.many = last - chunk.voxel < CHUNK ? last - chunk.voxel : CHUNK;
            read_chunk(of, &chunk);
            for (int64_t at = 0; at < chunk.many; at += WIDTH) {
                read_group(&chunk, at, of->classes, &group);
                count_group(&group, of->classes, sums);
            }
            if (chunk.voxel % (FEW * WIDTH) == FEW * WIDTH - CHUNK || chunk.voxel + CHUNK >= last) pour(sums, SUMS * of->classes, whole);
        }
    }
}

/* ---- back ---- */

/* The gradient of a group at its logits, which it takes the place of. */
INLINE void slope_of_group(const float *slopes, int64_t classes, const Group *group, Chunk *chunk, int64_t at) {
    Floats mean = {0}, weight = {0};
    for (int64_t c = 0; c < classes; c++) {
        Signs inside = group->class == (int32_t)c;
        mean += group->p[c] * (slopes[classes + c] + chosen(all(slopes[c]), inside));
        weight += chosen(all(slopes[3 * classes + c]), inside);
    }
    for (int64_t c = 0; c < classes; c++) {
        Signs inside = group->class == (int32_t)c;
        Floats share = slopes[classes + c] + chosen(all(slopes[c]), inside) - mean + weight;
        put_numbers(chunk->logits[c] + at, chosen(group->p[c] * share - chosen(weight, inside), group->valid));
    }
}

static void slope_of_blocks(void *given, int64_t first, int64_t end) {
    const Work *of = given;
    Chunk chunk = {0};
    Group group;
    for (int64_t block = first; block < end; block++) {
        int64_t last = first_of(of, block, &chunk);
        for (; chunk.voxel < last; chunk.voxel += CHUNK) {
            chunk.many = last - chunk.voxel < CHUNK ? last - chunk.voxel : CHUNK;
            read_chunk(of, &chunk);
            for (int64_t at = 0; at < chunk.many; at += WIDTH) {
                read_group(&chunk, at, of->classes, &group);
                slope_of_group(of->slopes + chunk.sample * SUMS * of->classes, of->classes, &group, &chunk, at);
            }
            write_chunk(of, &chunk);
        }
    }
}

/* `sums` (samples, blocks, SUMS, classes), of blocks of BLOCK voxels. */
void soft_counts_forward(const Number *logits, const uint8_t *target, double *sums, int64_t samples, int64_t voxels, int64_t classes,
                         int64_t sample_step, int64_t class_step, int64_t voxel_step, int64_t threads) {
    Work of = {.logits = logits, .target = target, .sums = sums, .voxels = voxels, .classes = classes,
               .blocks = (voxels + BLOCK - 1) / BLOCK, .sample_step = sample_step, .class_step = class_step, .voxel_step = voxel_step};
    in_shares(count_blocks, &of, samples * of.blocks, threads);
}

/* `out`, which lies as the logits do, is the gradient at them where the sums have the gradients `slopes` (samples, SUMS, classes). */
void soft_counts_backward(const Number *logits, const uint8_t *target, const float *slopes, Number *out, int64_t samples,
                          int64_t voxels, int64_t classes, int64_t sample_step, int64_t class_step, int64_t voxel_step, int64_t threads) {
    Work of = {.logits = logits, .target = target, .slopes = slopes, .out = out, .voxels = voxels, .classes = classes,
               .blocks = (voxels + BLOCK - 1) / BLOCK, .sample_step = sample_step, .class_step = class_step, .voxel_step = voxel_step};
    in_shares(slope_of_blocks, &of, samples * of.blocks, threads);
}
