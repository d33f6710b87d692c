/* Changes of grey value that look at one voxel at a time: brightness, contrast, gamma (augment/_grey.py). A sample is `channels` channels of
 * `count` values of float32, one channel behind the other, changed where they lie. */
#include "grey.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

Extent extent_of(const float *values, int64_t count) {
    enum { LANES = 64 };
    Extent found = {values[0], values[0], 0.0};
    for (int64_t first = 0; first < count; first += RUN) {
        int64_t length = count - first < RUN ? count - first : RUN, k = 0;
        const float *run = values + first;
        float low[LANES], high[LANES], sum[LANES] = {0};
        for (int lane = 0; lane < LANES; lane++) low[lane] = high[lane] = run[0];
        for (; k + LANES <= length; k += LANES)
            for (int lane = 0; lane < LANES; lane++) {
                float value = run[k + lane];
                low[lane] = value < low[lane] ? value : low[lane];
                high[lane] = value > high[lane] ? value : high[lane];
                sum[lane] += value;
            }
        for (int lane = 0; k < length; k++, lane++) {
            low[lane] = run[k] < low[lane] ? run[k] : low[lane];
            high[lane] = run[k] > high[lane] ? run[k] : high[lane];
            sum[lane] += run[k];
        }
        for (int lane = 0; lane < LANES; lane++) {
            found.low = low[lane] < found.low ? low[lane] : found.low;
            found.high = high[lane] > found.high ? high[lane] : found.high;
            found.sum += sum[lane];
        }
    }
    return found;
}

/* Each channel times its own factor. */
void grey_scale(float *sample, const float *factors, int64_t channels, int64_t count) {
    for (int64_t channel = 0; channel < channels; channel++, sample += count)
        for (int64_t k = 0; k < count; k++) sample[k] *= factors[channel];
}

/* Each channel drawn from its mean by its own factor, within the range that it had. */
void grey_contrast(float *sample, const float *factors, int64_t channels, int64_t count) {
    for (int64_t channel = 0; channel < channels; channel++, sample += count) {
        Extent had = extent_of(sample, count);
        float factor = factors[channel], rest = (float)(had.sum / (double)count) * (1.0f - factor);
        for (int64_t k = 0; k < count; k++) {
            float value = sample[k] * factor + rest;
            value = had.low > value ? had.low : value;
            sample[k] = had.high < value ? had.high : value;
        }
    }
}

typedef struct {
    double sum, square, sum_now, square_now; /* of values from 0 to 1 and of their curve */
} Moments;

enum { SOME = 128 }; /* values that are added up in single precision in fewer sums */

typedef struct {
    float start, slope, power; /* `(value - start) * slope` goes from 0 to 1 */
} Curve;

#ifdef __AVX512F__
/* The same as `to_the_power` where the processor takes floating-point numbers apart and puts them together again. */
static inline __m512 to_the_powers(__m512 x, __m512 power) {
    static const float of_two[] = {0.001327647152f, 0.009675541331f, 0.05550713275f, 0.2402211972f, 0.6931469671f, 1.0f};
    static const float logarithm[] = {0.07806667084f, -0.1742301701f, 0.2163248612f,  -0.2427235255f, 0.2881915054f,
                                      -0.3605759216f, 0.4809020805f,  -0.7213484784f, 1.442695032f};
    __mmask16 seen = _mm512_cmp_ps_mask(x, _mm512_set1_ps(1.17549435e-38f), _CMP_GE_OQ);
    __m512 whole = _mm512_getexp_ps(_mm512_mul_ps(x, _mm512_set1_ps(4.0f / 3.0f)));
    __m512 f = _mm512_sub_ps(_mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_zero), _mm512_set1_ps(1.0f));
    __m512 part = _mm512_set1_ps(logarithm[0]), raised = _mm512_set1_ps(of_two[0]);
    for (int k = 1; k < 9; k++) part = _mm512_fmadd_ps(part, f, _mm512_set1_ps(logarithm[k]));
    __m512 less = _mm512_mul_ps(_mm512_mul_ps(part, f), power);
    __m512 near = _mm512_roundscale_ps(_mm512_fmadd_ps(power, whole, less), 8);
    __m512 rest = _mm512_add_ps(_mm512_fmsub_ps(power, whole, near), less);
    for (int k = 1; k < 6; k++) raised = _mm512_fmadd_ps(raised, rest, _mm512_set1_ps(of_two[k]));
    return _mm512_maskz_scalef_ps(seen, raised, near);
}

/* `bend_run` of as many values as fill whole registers; the number of them. */
static int64_t bend_registers(float *run, int64_t length, Curve curve, Moments *all) {
    __m512 start = _mm512_set1_ps(curve.start), slope = _mm512_set1_ps(curve.slope), power = _mm512_set1_ps(curve.power);
    __m512 sum = _mm512_setzero_ps(), square = sum, sum_now = sum, square_now = sum;
    int64_t k = 0;
    for (; k + 16 <= length; k += 16) {
        __m512 above = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(run + k), start), slope), now = to_the_powers(above, power);
        sum = _mm512_add_ps(sum, above);
        square = _mm512_fmadd_ps(above, above, square);
        sum_now = _mm512_add_ps(sum_now, now);
        square_now = _mm512_fmadd_ps(now, now, square_now);
        _mm512_storeu_ps(run + k, now);
    }
    all->sum += _mm512_reduce_add_ps(sum), all->square += _mm512_reduce_add_ps(square);
    all->sum_now += _mm512_reduce_add_ps(sum_now), all->square_now += _mm512_reduce_add_ps(square_now);
    return k;
}
#else
static int64_t bend_registers(float *run, int64_t length, Curve curve, Moments *all) {
    (void)run, (void)length, (void)curve, (void)all;
    return 0;
}
#endif

/* The same where the compiler knows of shorter registers or of none, whose few sums would lose more. */
static void bend_some(float *run, int64_t length, Curve curve, Moments *all) {
    float sum = 0, square = 0, sum_now = 0, square_now = 0;
#pragma omp simd reduction(+ : sum, square, sum_now, square_now)
    for (int64_t k = 0; k < length; k++) {
        float above = (run[k] - curve.start) * curve.slope, now = to_the_power(above, curve.power);
        sum += above;
        square += above * above;
        sum_now += now;
        square_now += now * now;
        run[k] = now;
    }
    all->sum += sum, all->square += square, all->sum_now += sum_now, all->square_now += square_now;
}

/* The curve of values in their place, and their moments. */
static void bend_run(float *run, int64_t length, Curve curve, Moments *all) {
    for (int64_t k = bend_registers(run, length, curve, all); k < length; k += SOME)
        bend_some(run + k, length - k < SOME ? length - k : SOME, curve, all);
}

static double deviation(double sum, double square, double count) {
    double variance = square / count - (sum / count) * (sum / count);
    return variance > 0 ? sqrt(variance) : 0;
}

/* Each channel, scaled to 0 ... 1, to its own power, then back to its mean and deviation; `inverted`, the same of what is missing to the
 * greatest value. What is not finite makes the whole channel not a number. */
void grey_gamma(float *sample, const float *powers, int64_t channels, int64_t count, int64_t inverted) {
    for (int64_t channel = 0; channel < channels; channel++, sample += count) {
        Extent had = extent_of(sample, count);
        Moments all = {0};
        float width = had.high - had.low > 1e-7f ? had.high - had.low : 1e-7f, sign = inverted ? -1.0f : 1.0f;
        float start = inverted ? had.high : had.low;
        Curve curve = {start, sign / width, powers[channel]};
        for (int64_t first = 0; first < count; first += RUN)
            bend_run(sample + first, count - first < RUN ? count - first : RUN, curve, &all);
        double now = deviation(all.sum_now, all.square_now, (double)count);
        double gain = width * deviation(all.sum, all.square, (double)count) / (now > 1e-7 ? now : 1e-7);
        float settled = (float)(start + sign * (width * all.sum - gain * all.sum_now) / (double)count), slope = (float)(sign * gain);
        if (!isfinite(had.sum) || !isfinite(had.high - had.low)) settled = NAN;
        for (int64_t k = 0; k < count; k++) sample[k] = settled + slope * sample[k];
    }
}
