/* Gaussian noise, looked up by random bits, and the smooth gain of a coil (augment/_grey.py). A sample is channels of planes x rows x columns
 * of float32, columns side by side, changed where they lie; a picture has as many planes of one row each. */
#include "grey.h"

#ifdef __SIZEOF_INT128__
typedef unsigned __int128 Wide;

/* PCG64 (O'Neill 2014, XSL-RR 128/64), as numpy has it: a step, then its output. */
static const uint64_t FACTOR_HIGH = 2549297995355413924u, FACTOR_LOW = 4865540595714422341u;

static inline uint64_t output_of(Wide state) {
    uint64_t mixed = (uint64_t)(state >> 64) ^ (uint64_t)state;
    unsigned turn = (unsigned)(state >> 122);
    return mixed >> turn | mixed << (-turn & 63);
}

static uint32_t hashed(uint32_t value, uint32_t *constant, uint32_t factor) {
    value ^= *constant;
    *constant *= factor;
    value *= *constant;
    return value ^ value >> 16;
}

/* The 256 bits that numpy's SeedSequence (after O'Neill's seed_seq_fe, 2015) makes of `seed`: where PCG64 starts, and its stream. */
static void spread_seed(uint64_t seed, Wide words[2]) {
    uint32_t constant = 0x43b0d7e5, pool[4] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0, 0};
    for (int k = 0; k < 4; k++) pool[k] = hashed(pool[k], &constant, 0x931e8875);
    for (int from = 0; from < 4; from++)
        for (int to = 0; to < 4; to++) {
            if (from == to) continue;
            uint32_t mixed = 0xca01f9ddu * pool[to] - 0x4973f715u * hashed(pool[from], &constant, 0x931e8875);
            pool[to] = mixed ^ mixed >> 16;
        }
    uint64_t made[4];
    constant = 0x8b51f9dd;
    for (int k = 0; k < 4; k++) {
        uint64_t low = hashed(pool[2 * k % 4], &constant, 0x58f38ded);
        made[k] = (uint64_t)hashed(pool[(2 * k + 1) % 4], &constant, 0x58f38ded) << 32 | low;
    }
    for (int k = 0; k < 2; k++) words[k] = (Wide)made[2 * k] << 64 | made[2 * k + 1];
}

/* Four values, each plus `deviation` times the entry of `table` that 16 bits of `word` name, the lowest first. */
static inline void add_four(float *values, const float *table, uint64_t word, float deviation) {
    values[0] += deviation * table[word & 0xffff];
    values[1] += deviation * table[word >> 16 & 0xffff];
    values[2] += deviation * table[word >> 32 & 0xffff];
    values[3] += deviation * table[word >> 48];
}

/* Adds `deviation` times normal numbers to `count` values, entries of a `table` of 65,536 that PCG64 of `seed` names. Two states go along by
 * two steps at once, so that neither waits for the other. */
void grey_noise(float *values, const float *table, int64_t seed, int64_t count, float deviation) {
    Wide words[2], factor = (Wide)FACTOR_HIGH << 64 | FACTOR_LOW;
    spread_seed((uint64_t)seed, words);
    Wide step = words[1] << 1 | 1, start = (step + words[0]) * factor + step;
    Wide odd = start * factor + step, even = odd * factor + step, twice = factor * factor, leap = (factor + 1) * step;
    for (int64_t k = 0; k < 65536; k += 16) __builtin_prefetch(table + k, 0, 2); /* one after another they come sooner than by chance */
    int64_t k = 0;
    for (; k + 8 <= count; k += 8) {
        add_four(values + k, table, output_of(odd), deviation);
        add_four(values + k + 4, table, output_of(even), deviation);
        odd = odd * twice + leap, even = even * twice + leap;
    }
    for (; k < count; k += 4, odd = even) {
        float rest[4] = {0};
        int64_t left = count - k < 4 ? count - k : 4;
        memcpy(rest, values + k, (size_t)left * sizeof *rest);
        add_four(rest, table, output_of(odd), deviation);
        memcpy(values + k, rest, (size_t)left * sizeof *rest);
    }
}
#endif

typedef struct {
    const float *coefficients; /* of the powers of the places along planes, rows and columns, from -1 to 1, four along each */
    int64_t deep, high;        /* how many there are along planes and rows: four, or one where all are the first */
    int64_t planes, rows, columns;
} Field;

static float place_of(int64_t k, int64_t side) { return side > 1 ? (float)(2.0 * (double)k / (double)(side - 1) - 1.0) : -1.0f; }

/* What remains of the polynomial in one plane: four numbers for each power of the place along rows. */
static void plane_of(float part[16], const Field *field, int64_t plane) {
    float deep = place_of(plane, field->planes);
    int64_t size = field->high * 4;
    for (int64_t k = 0; k < size; k++) part[k] = 0;
    for (int64_t a = field->deep - 1; a >= 0; a--)
        for (int64_t k = 0; k < size; k++) part[k] = part[k] * deep + field->coefficients[a * size + k];
}

/* What remains of that in one row: a cubic in the place along it. */
static void cubic_of(float cubic[4], const float part[16], const Field *field, int64_t row) {
    float high = place_of(row, field->rows);
    for (int k = 0; k < 4; k++) cubic[k] = part[(field->high - 1) * 4 + k];
    for (int64_t b = field->high - 2; b >= 0; b--)
        for (int k = 0; k < 4; k++) cubic[k] = cubic[k] * high + part[b * 4 + k];
}

static inline float value_of(const float cubic[4], float x) { return cubic[0] + x * (cubic[1] + x * (cubic[2] + x * cubic[3])); }

/* The largest magnitude of the polynomial on the grid. */
static float largest_of(const Field *field) {
    float largest[TOGETHER] = {0}, most = 0, step = field->columns > 1 ? 2.0f / (float)(field->columns - 1) : 0, part[16], cubic[4];
    for (int64_t line = 0; line < field->planes * field->rows; line++) {
        if (line % field->rows == 0) plane_of(part, field, line / field->rows);
        cubic_of(cubic, part, field, line % field->rows);
        for (int64_t first = 0; first < field->columns; first += TOGETHER)
            for (int k = 0; k < TOGETHER; k++) {
                int32_t column = (int32_t)(first + k < field->columns ? first + k : field->columns - 1);
                float found = fabsf(value_of(cubic, (float)column * step - 1.0f));
                largest[k] = found > largest[k] ? found : largest[k];
            }
    }
    for (int k = 0; k < TOGETHER; k++) most = largest[k] > most ? largest[k] : most;
    return most;
}

/* The exponential of `scale` times a cubic, from column `first` on. */
static void gains(float *restrict gain, const float cubic[4], float scale, int32_t first, int32_t count, float step) {
    for (int32_t k = 0; k < count; k++) {
        float power = scale * value_of(cubic, (float)(first + k) * step - 1.0f);
        power = power > -126.0f ? power : -126.0f;
        power = power < 126.0f ? power : 126.0f;
        float whole = (power + 12582912.0f) - 12582912.0f;
        gain[k] = two_to_the(whole, power - whole);
    }
}

/* Every channel, counted from its least value, times the exponential of a polynomial whose largest magnitude is `strength`; `coefficients`
 * as in `Field`. `lows` holds as many values as there are channels. */
void grey_bias(float *sample, const float *coefficients, float *lows, float strength, int64_t deep, int64_t high, int64_t channels,
               int64_t planes, int64_t rows, int64_t columns) {
    enum { LENGTH = 256 };
    Field field = {coefficients, deep, high, planes, rows, columns};
    float largest = largest_of(&field), scale = strength / (largest > 1e-7f ? largest : 1e-7f) * 1.44269504f;
    float step = columns > 1 ? 2.0f / (float)(columns - 1) : 0, gain[LENGTH], part[16], cubic[4];
    int64_t size = planes * rows * columns;
    for (int64_t channel = 0; channel < channels; channel++) {
        Extent had = extent_of(sample + channel * size, size);
        lows[channel] = isnan(had.sum) ? NAN : had.low;
    }
    for (int64_t line = 0; line < planes * rows; line++) {
        if (line % rows == 0) plane_of(part, &field, line / rows);
        cubic_of(cubic, part, &field, line % rows);
        for (int64_t first = 0; first < columns; first += LENGTH) {
            int64_t count = columns - first < LENGTH ? columns - first : LENGTH;
            gains(gain, cubic, scale, (int32_t)first, (int32_t)count, step);
            for (int64_t channel = 0; channel < channels; channel++) {
                float *values = sample + channel * size + line * columns + first, low = lows[channel];
                for (int64_t k = 0; k < count; k++) values[k] = low + (values[k] - low) * gain[k];
            }
        }
    }
}
