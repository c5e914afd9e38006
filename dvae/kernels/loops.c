/* The loops of `dvae.kernels.loops.TorchLoops` over a block, a row in the cache at a time.

   Matrices are (rows, codes), contiguous. No function waits, allocates or fails. What a vector unit
   has no instruction for is computed here, so that a compiler can keep a whole loop in registers. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROWS _Pragma("omp parallel for num_threads(threads)") for (int64_t i = 0; i < rows; i++)

static inline float float_of(int32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}

/* Natural logarithm of a normal number above 0, to a unit in the last place: x = 2^n (1 + f),
   1 + f in [sqrt(1/2), sqrt(2)); the polynomial and the two parts of log 2 are those of logf in
   S. Moshier's Cephes. */
static inline float natural_log(float x) {
    int32_t bits = bits_of(x) - 0x3F3504F3;
    float n = (float)(bits >> 23);
    float f = float_of((bits & 0x7FFFFF) + 0x3F3504F3) - 1.0f;
    float p = 0.0873484313f;
    p = p * f - 0.143075213f;
    p = p * f + 0.149179742f;
    p = p * f - 0.165705085f;
    p = p * f + 0.199620724f;
    p = p * f - 0.250017554f;
    p = p * f + 0.333339512f;
    p = p * f - 0.499999911f;
    return 0.693147181f * n + (f * f * p + f);
}

/* 2^x for x below 128; 0 where that is no normal number; NaN for NaN. The polynomial is that of
   exp2f in Cephes. */
static inline float power_of_two(float x) {
    float y = x < -126.0f ? -126.0f : x;
    float n = rintf(y), f = y - n;
    float p = 1.535336188319500e-4f;
    p = p * f + 1.339887440266574e-3f;
    p = p * f + 9.618437357674640e-3f;
    p = p * f + 5.550332471162809e-2f;
    p = p * f + 2.402264791363012e-1f;
    p = p * f + 6.931472028550421e-1f;
    p = p * f + 1.0f;
    return x < -126.0f ? 0.0f : p * float_of(((int32_t)n + 127) << 23);
}

static inline float power_of_e(float x) { return power_of_two(x * 1.44269504f); }

/* See dvae.kernels.noise. */
static inline int32_t mix(int32_t x) {
    x = (int32_t)((uint32_t)x * 0x7FEB352Du);
    x ^= x >> 15;
    return (int32_t)((uint32_t)x * 0x846CA68Bu);
}

static inline float gumbel(int32_t first, int32_t second, int32_t column) {
    int32_t bits = mix(mix(column ^ first) ^ second);
    bits ^= bits >> 16;
    bits &= 0x7FFFFFFF;
    bits = bits < 0x7FFFFFBF ? bits : 0x7FFFFFBF;
    float v = (float)bits * 0x1p-31f + 0x1p-32f;
    float w = 1.0f - v, lost = v - (1.0f - w);
    return -natural_log(lost - natural_log(w));
}

void add_noise(int64_t rows, int64_t codes, int threads, const float *logits, const int32_t *first,
               const int32_t *second, const int32_t *columns, float *out) {
    ROWS {
        const float *x = logits + i * codes;
        float *y = out + i * codes;
        const int32_t a = first[i], b = second[i];
#pragma omp simd
        for (int64_t j = 0; j < codes; j++) y[j] = x[j] + gumbel(a, b, columns[j]);
    }
}

void raise_maxima(int64_t rows, int64_t codes, int threads, const float *matrix, int64_t start,
                  float *highest, int64_t *place) {
    ROWS {
        const float *x = matrix + i * codes;
        float most = highest[i];
#pragma omp simd reduction(max : most)
        for (int64_t j = 0; j < codes; j++) most = x[j] > most ? x[j] : most;
        if (most > highest[i]) {
            int64_t j = 0;
            while (x[j] != most) j++;
            highest[i] = most;
            place[i] = start + j;
        }
    }
}

void weigh(int64_t rows, int64_t codes, int threads, float *matrix, const float *peak, float rate,
           float *sum) {
    ROWS {
        float *x = matrix + i * codes;
        const float most = peak[i];
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < codes; j++) {
            x[j] = power_of_two((x[j] - most) * rate);
            total += x[j];
        }
        sum[i] = total;
    }
}

void diverge(int64_t rows, int64_t codes, int threads, const float *logits, const float *top,
             const float *log_prior, float *q, float *sum, float *moment) {
    ROWS {
        const float *x = logits + i * codes;
        float *y = q + i * codes;
        const float most = top[i];
        float total = 0.0f, mean = 0.0f;
#pragma omp simd reduction(+ : total, mean)
        for (int64_t j = 0; j < codes; j++) {
            const float log_q = x[j] - most, power = power_of_e(log_q);
            y[j] = power;
            total += power;
            mean += power * (log_q - log_prior[j]);
        }
        sum[i] = total;
        moment[i] = mean;
    }
}

void gradient(int64_t rows, int64_t codes, int threads, const float *logits, const float *pull,
              float *weights, float *q, const float *log_prior, int64_t start,
              const int64_t *winner, const float *terms) {
    const float *of_winner = terms, *top = terms + rows, *of_kl = terms + 2 * rows;
    const float *ratio = terms + 3 * rows, *half = terms + 4 * rows, *shift = terms + 5 * rows;
    const float *of_winner_posterior = terms + 6 * rows;
    ROWS {
        const float *x = logits + i * codes, *u = pull + i * codes;
        float *s = weights + i * codes, *p = q + i * codes;
        const float most = top[i], kl = of_kl[i], less = ratio[i], part = half[i], more = shift[i];
        const int64_t won = winner[i] - start;
        const int inside = won >= 0 && won < codes;
        const float weight = inside ? s[won] : 0.0f;
#pragma omp simd
        for (int64_t j = 0; j < codes; j++) {
            const float log_q = x[j] - most, power = power_of_e(log_q);
            const float fall = log_q - log_prior[j] - less;
            s[j] = s[j] * u[j] + power * (kl * fall - part * (u[j] + more));
            p[j] = power;
        }
        if (inside) {
            const float log_q = x[won] - most;
            const float fall = log_q - log_prior[won] - less;
            s[won] = weight * of_winner[i] + p[won] * (kl * fall - part * of_winner_posterior[i]);
        }
    }
}
