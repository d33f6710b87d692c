/* What places.c and along.c share: samples, registers as wide as the processor's, and loads and stores of voxels.

   Volumes are (channels, planes, rows, columns); a picture is a volume of one plane. Columns lie side by side in memory, and all that is
   looked at in one sample has the same steps from row to row and from plane to plane. Places are voxels of the source counted from 0,
   with fractions; one outside is moved to the nearest inside and counts 1 less its distance to that, 0 from one voxel on. */
#ifndef PLACES_H
#define PLACES_H
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

/* Floats of a register; their numbers; eight, four or two pairs; of two registers the former and the latter of all pairs; the first half
   of one, each twice, and the second. */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
enum { LANES = 16 };
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define PAIRED pair[0], pair[1], pair[2], pair[3], pair[4], pair[5], pair[6], pair[7]
#define FORMER 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define LATTER 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define FIRST 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define SECOND 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#elif defined(__AVX2__)
enum { LANES = 8 };
#define NUMBERS 0, 1, 2, 3, 4, 5, 6, 7
#define PAIRED pair[0], pair[1], pair[2], pair[3]
#define FORMER 0, 2, 4, 6, 8, 10, 12, 14
#define LATTER 1, 3, 5, 7, 9, 11, 13, 15
#define FIRST 0, 0, 1, 1, 2, 2, 3, 3
#define SECOND 4, 4, 5, 5, 6, 6, 7, 7
#else
enum { LANES = 4 };
#define NUMBERS 0, 1, 2, 3
#define PAIRED pair[0], pair[1]
#define FORMER 0, 2, 4, 6
#define LATTER 1, 3, 5, 7
#define FIRST 0, 0, 1, 1
#define SECOND 2, 2, 3, 3
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef double Pairs __attribute__((vector_size(4 * LANES))); /* pairs of floats */

/* One tensor of a sample: masks are `nearest`, of `size` bytes a voxel; images are linear and float. `step` is from channel to channel. */
typedef struct {
    int64_t nearest, size, channels, step;
} Form;

typedef struct {
    const char *source;
    char *out;
} Ends;

/* One sample. `linear` and `middle` lead from the middle of the patch to places; `field` (axes, planes, rows, columns), 0 where there is
   none, adds to them, `worth` voxels for each unit. */
typedef struct {
    int64_t source[3], patch[3], plane, row; /* sides, and voxels from plane to plane and from row to row of the source */
    double linear[3][3], middle[3];
    const float *field;
    float worth[3], last[3]; /* `last`: the greatest place that has a voxel behind the one before it */
    int axes, fading;
    int64_t ahead; /* voxels of the source from what is looked at to what will be soon */
    int64_t looks;
    const Form *forms;
    const Ends *ends;
} Sample;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Asks memory for a voxel that will be looked at soon, when it is the turn of what lies `ahead`; nothing happens where none is there. A
   row runs across the lines of memory of a source that is larger than the caches, which no processor foresees. */
static inline void ask(const Sample *of, uintptr_t voxel, int64_t size) {
    __builtin_prefetch((const void *)(voxel + (uintptr_t)(of->ahead * size)));
}

/* Half as many voxels as a register holds, and those behind each of them. */
static inline Pairs paired(const float *from, const int32_t *at) {
    double pair[LANES / 2];
    for (int k = 0; k < LANES / 2; k++) memcpy(&pair[k], from + at[k], sizeof pair[k]);
    return (Pairs){PAIRED};
}

#ifdef __clang__
#define SHUFFLED(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define SHUFFLED(A, B, ...) __builtin_shuffle(A, B, (Ints){__VA_ARGS__})
#endif

static inline Floats former(Floats low, Floats high) { return SHUFFLED(low, high, FORMER); }

static inline Floats latter(Floats low, Floats high) { return SHUFFLED(low, high, LATTER); }

/* The first `count` of a register at most, zeros behind. */
static inline Floats loaded(const float *from, int64_t count) {
#ifdef __AVX512F__
    return (Floats)_mm512_maskz_loadu_ps(count >= LANES ? 0xffff : (1 << count) - 1, from);
#else
    Floats found = {0};
    if (count >= LANES) /* of a length that the compiler knows */
        memcpy(&found, from, sizeof found);
    else
        memcpy(&found, from, count * sizeof(float));
    return found;
#endif
}

static inline void stored(float *out, Floats values, int64_t count) {
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(out, count >= LANES ? 0xffff : (1 << count) - 1, (__m512)values);
#else
    if (count >= LANES)
        memcpy(out, &values, sizeof values);
    else
        memcpy(out, &values, count * sizeof(float));
#endif
}

/* Voxels of any type by number; 0 where that is below 0, if any is. */
#define TAKE(NAME, TYPE)                                                                                                                 \
    static inline void NAME(const TYPE *restrict from, const int32_t *restrict at, TYPE *restrict out, int64_t count, int beyond) {      \
        if (beyond) {                                                                                                                    \
            _Pragma("GCC unroll 8") for (int64_t k = 0; k < count; k++) out[k] = at[k] < 0 ? 0 : from[at[k]];                            \
        } else {                                                                                                                         \
            _Pragma("GCC unroll 8") for (int64_t k = 0; k < count; k++) out[k] = from[at[k]];                                            \
        }                                                                                                                                \
    }
TAKE(take_1, uint8_t)
TAKE(take_2, uint16_t)
TAKE(take_4, uint32_t)
TAKE(take_8, uint64_t)

/* Apart from whoever calls it: inlined it takes registers from what is around it (1.03 times as long along the axes). */
static __attribute__((noinline)) void take(const void *from, const int32_t *at, void *out, int64_t count, int64_t size, int beyond) {
    if (size == 1)
        take_1(from, at, out, count, beyond);
    else if (size == 2)
        take_2(from, at, out, count, beyond);
    else if (size == 4)
        take_4(from, at, out, count, beyond);
    else
        take_8(from, at, out, count, beyond);
}

/* Fills a sample whose output rows and columns lie along the axes of the source; gives whether it could, which it cannot where a side of
   the source is longer than its tables, or without memory for them. */
int places_along(const Sample *of, int64_t threads);

/* Fills a sample that is mirrored along some axes, or none, and moved by nothing else. */
void places_turned(Sample *of, int64_t threads);

#endif
