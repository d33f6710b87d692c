/* What samples show that lie along the axes of their source: they are scaled, moved and mirrored, or mirrored alone. Where the columns of
   an output row look is the same for all rows, and is found once. */
#include "parallel.h"
#include "places.h"
#include <math.h>
#include <stdlib.h>

enum { WIDEST = 2048, LINE = 64 }; /* voxels of a side; bytes that lie together in memory */

/* Where the voxels of one axis look: between `low` and the next, `share` of that; what they count; the nearest, -1 outside. */
typedef struct {
    int32_t low[WIDEST + LANES], nearest[WIDEST + LANES];
    float share[WIDEST + LANES], kept[WIDEST + LANES];
    int64_t first, end; /* of the source, what is looked at */
    int beyond;         /* whether any looks outside */
} Line;

typedef struct {
    const Sample *of;
    Line lines[3];
} Lined;

static void lay(Line *line, const Sample *of, int axis) {
    const int64_t side = of->source[axis], new = of->patch[axis];
    line->first = side;
    line->end = line->beyond = 0;
    for (int64_t k = 0; k < new; k++) {
        const double place = (k - (new - 1) / 2.0) * of->linear[axis][axis] + of->middle[axis];
        const double held = !(place >= 0) ? 0 : place <= side - 1 ? place : side - 1;
        const double away = fabs(place - held), low = side > 1 && held >= side - 1 ? side - 2 : floor(held);
        line->low[k] = low;
        line->share[k] = held - low;
        line->kept[k] = of->fading ? (away < 1 ? 1 - away : 0) : 1;
        line->nearest[k] = away <= 0.5 ? (int32_t)rint(held) : -1;
        line->beyond |= !(away <= 0.5);
        line->first = least(line->first, low);
        if (low + 2 > line->end) line->end = least(low + 2, side);
    }
    for (int64_t k = new; k < new + LANES; k++) { /* so that whole registers can be taken */
        line->low[k] = line->low[new - 1];
        line->share[k] = line->kept[k] = 0;
    }
}

/* Asks memory for `count` voxels in a row. */
static void ask_row(const Sample *of, const void *voxels, int64_t count, int64_t size) {
    for (int64_t k = 0; k < count * size; k += LINE) ask(of, (uintptr_t)voxels + k, size);
}

/* The rows around one output row, mixed, from the first to the last column that is looked at. */
static void mixed(const Lined *given, const float *from, const int64_t *at, float *out) {
    const Sample *of = given->of;
    const Line *line = given->lines;
    const float z = line[0].share[at[0]], y = line[1].share[at[1]], kept = line[0].kept[at[0]] * line[1].kept[at[1]];
    const float weights[4] = {kept * (1 - z) * (1 - y), kept * (1 - z) * y, kept * z * (1 - y), kept * z * y};
    const float *near = from + line[0].low[at[0]] * of->plane + line[1].low[at[1]] * of->row + line[2].first;
    const float *next = near + (y > 0 ? of->row : 0), *behind = near + (z > 0 ? of->plane : 0);
    const float *last = behind + (next - near);
    const int64_t count = line[2].end - line[2].first;
    ask_row(of, last, count, sizeof *last);
    for (int64_t k = 0; k < count; k += LANES) {
        Floats shown = weights[0] * loaded(near + k, count - k);
        if (y > 0) shown += weights[1] * loaded(next + k, count - k);
        if (z > 0) shown += weights[2] * loaded(behind + k, count - k);
        if (y > 0 && z > 0) shown += weights[3] * loaded(last + k, count - k);
        memcpy(out + k, &shown, sizeof shown);
    }
}

/* A register of voxels of a row, and those behind them. */
static void ahead(const float *from, const int32_t *at, int32_t first, Floats *near, Floats *far) {
    const int32_t low = at[0] < at[LANES - 1] ? at[0] : at[LANES - 1], high = at[0] + at[LANES - 1] - low;
#ifdef __AVX512F__
    if (high - low < 2 * LANES - 1) { /* they lie in two registers */
        const __m512i number = _mm512_sub_epi32(_mm512_loadu_si512(at), _mm512_set1_epi32(low));
        const __m512 here = _mm512_loadu_ps(from + low - first), there = _mm512_loadu_ps(from + low - first + LANES);
        *near = (Floats)_mm512_permutex2var_ps(here, number, there);
        *far = (Floats)_mm512_permutex2var_ps(here, _mm512_add_epi32(number, _mm512_set1_epi32(1)), there);
        return;
    }
#endif
    (void)high;
    const Floats one = (Floats)paired(from - first, at), two = (Floats)paired(from - first, at + LANES / 2);
    *near = former(one, two);
    *far = latter(one, two);
}

/* One mixed row as its columns show it. */
static void spread(const Line *line, const float *mixed, float *out, int64_t count, int fading) {
    for (int64_t k = 0; k < count; k += LANES) {
        Floats near, far, shown;
        ahead(mixed, line->low + k, line->first, &near, &far);
        shown = near + loaded(line->share + k, LANES) * (far - near);
        if (fading) shown *= loaded(line->kept + k, LANES);
        stored(out + k, shown, count - k);
    }
}

#ifdef __AVX512BW__
/* As words, by what number 32 voxels that rise or fall lie behind the first, `low`. */
static __m512i numbers(const int32_t *at, int32_t low) {
    const __m512i from = _mm512_set1_epi32(low);
    const __m512i near = _mm512_sub_epi32(_mm512_loadu_si512(at), from), far = _mm512_sub_epi32(_mm512_loadu_si512(at + LANES), from);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(near)), _mm512_cvtepi32_epi16(far), 1);
}

/* Bytes of a row, all inside: 32 at a time come out of two registers where they lie that near each other. Gives how many were shown. */
static int64_t take_near(const uint8_t *from, const int32_t *at, uint8_t *out, int64_t count) {
    int64_t k = 0;
    for (; k + 2 * LANES <= count; k += 2 * LANES) {
        const int32_t one = at[k], two = at[k + 2 * LANES - 1], low = one < two ? one : two, wide = one + two - 2 * low + 1;
        if (wide > 64) break;
        const __m512i bytes = _mm512_maskz_loadu_epi8(~(uint64_t)0 >> (64 - wide), from + low);
        const __m512i here = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes));
        const __m512i there = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1));
        const __m256i shown = _mm512_cvtepi16_epi8(_mm512_permutex2var_epi16(here, numbers(at + k, low), there));
        memcpy(out + k, &shown, sizeof shown);
    }
    return k;
}
#endif

/* What a row of a mask shows. */
static void take_row(const Sample *of, const char *from, const Line *line, char *out, int64_t size) {
    int64_t shown = 0;
    ask_row(of, from + line->first * size, line->end - line->first, size);
#ifdef __AVX512BW__
    if (size == 1 && !line->beyond) shown = take_near((const uint8_t *)from, line->nearest, (uint8_t *)out, of->patch[2]);
#endif
    take(from, line->nearest + shown, out + shown * size, of->patch[2] - shown, size, line->beyond);
}

static void show_row(const Lined *given, int64_t look, int64_t channel, const int64_t *at, float *room) {
    const Sample *of = given->of;
    const Line *line = given->lines;
    const Form form = of->forms[look];
    const int64_t columns = of->patch[2];
    const char *from = of->ends[look].source + channel * form.step * form.size;
    char *out = of->ends[look].out + ((channel * of->patch[0] + at[0]) * of->patch[1] + at[1]) * columns * form.size;
    if (form.nearest) {
        const int64_t plane = line[0].nearest[at[0]], row = line[1].nearest[at[1]];
        if (plane < 0 || row < 0)
            memset(out, 0, columns * form.size);
        else
            take_row(of, from + (plane * of->plane + row * of->row) * form.size, &line[2], out, form.size);
    } else if (line[0].kept[at[0]] * line[1].kept[at[1]] == 0) {
        memset(out, 0, columns * form.size);
    } else {
        mixed(given, (const float *)from, at, room);
        spread(&line[2], room, (float *)out, columns, of->fading);
    }
}

static void along_axes(void *given, int64_t first, int64_t end) {
    const Lined *lined = given;
    const Sample *of = lined->of;
    float room[WIDEST + 2 * LANES];
    memset(room, 0, sizeof room);
    for (int64_t row = first; row < end; row++) {
        const int64_t at[2] = {row / of->patch[1], row % of->patch[1]};
        for (int64_t look = 0; look < of->looks; look++)
            for (int64_t channel = 0; channel < of->forms[look].channels; channel++) show_row(lined, look, channel, at, room);
    }
}

static int narrow(const Sample *of) { return of->source[0] <= WIDEST && of->source[1] <= WIDEST && of->source[2] <= WIDEST; }

int places_along(const Sample *of, int64_t threads) {
    Lined *lined = narrow(of) ? malloc(sizeof *lined) : 0;
    if (!lined) return 0;
    lined->of = of;
    for (int axis = 0; axis < 3; axis++) lay(&lined->lines[axis], of, axis);
    in_shares(along_axes, lined, of->patch[0] * of->patch[1], threads);
    free(lined);
    return 1;
}

/* ---- mirrored alone ---- */

#define TURN(NAME, TYPE)                                                                                                                 \
    static void NAME(const TYPE *from, TYPE *out, int64_t count) {                                                                       \
        for (int64_t k = 0; k < count; k++) out[k] = from[count - 1 - k];                                                                \
    }
TURN(turn_1, uint8_t)
TURN(turn_2, uint16_t)
TURN(turn_4, uint32_t)
TURN(turn_8, uint64_t)

static void turn(const void *from, void *out, int64_t count, int64_t size) {
    if (size == 1)
        turn_1(from, out, count);
    else if (size == 2)
        turn_2(from, out, count);
    else if (size == 4)
        turn_4(from, out, count);
    else
        turn_8(from, out, count);
}

/* One output row of one channel. */
static void turn_row(const Sample *of, const Form *form, const char *from, char *out, const int64_t *at) {
    int64_t voxel[3] = {at[0], at[1], 0};
    for (int axis = 0; axis < 3; axis++) {
        if (axis < 2 && of->linear[axis][axis] < 0) voxel[axis] = of->patch[axis] - 1 - voxel[axis];
        voxel[axis] += (of->source[axis] - of->patch[axis]) / 2;
    }
    from += (voxel[0] * of->plane + voxel[1] * of->row + voxel[2]) * form->size;
    if (of->linear[2][2] < 0)
        turn(from, out, of->patch[2], form->size);
    else
        memcpy(out, from, of->patch[2] * form->size);
}

static void turned_over(void *given, int64_t first, int64_t end) {
    const Sample *of = given;
    const int64_t rows = of->patch[1], all = of->patch[0] * rows;
    for (int64_t look = 0; look < of->looks; look++) {
        const Form *form = &of->forms[look];
        for (int64_t channel = 0; channel < form->channels; channel++) {
            const char *from = of->ends[look].source + channel * form->step * form->size;
            char *out = of->ends[look].out + channel * all * of->patch[2] * form->size;
            for (int64_t row = first; row < end; row++)
                turn_row(of, form, from, out + row * of->patch[2] * form->size, (int64_t[]){row / rows, row % rows});
        }
    }
}

void places_turned(Sample *of, int64_t threads) { in_shares(turned_over, of, of->patch[0] * of->patch[1], threads); }
