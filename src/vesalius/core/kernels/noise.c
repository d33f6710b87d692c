/* Gaussian noise, looked up by random bits, and the smooth gain of a coil. */
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

/* Adds `deviation` times normal numbers to `count` values: each is the entry of the `table` of 65,536 that 16 bits name, the lowest of a
 * word first. `given` is the state of PCG64 and its increment, two words each, the lower first. */
void grey_noise(float *values, const float *table, const uint64_t *given, int64_t count, float deviation) {
    Wide factor = (Wide)FACTOR_HIGH << 64 | FACTOR_LOW;
    Wide state = (Wide)given[1] << 64 | given[0], step = (Wide)given[3] << 64 | given[2];
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
        state = state * factor + step;
        uint64_t word = output_of(state);
        values[k] += deviation * table[word & 0xffff];
        values[k + 1] += deviation * table[word >> 16 & 0xffff];
        values[k + 2] += deviation * table[word >> 32 & 0xffff];
        values[k + 3] += deviation * table[word >> 48];
    }
    uint64_t word = output_of(state * factor + step);
    for (; k < count; k++, word >>= 16) values[k] += deviation * table[word & 0xffff];
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
