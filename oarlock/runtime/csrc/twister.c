/* Bernoulli numbers from the state of PyTorch's CPU generator, bit for bit those that it would draw:
 * a Mersenne Twister, two words of it for each number.
 * Source: M. Matsumoto, T. Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform
 * pseudo-random number generator" (1998). */
#include <stdint.h>

enum { WORDS = 624, APART = 397 };

/* The beginning of what torch.Generator.get_state() gives. */
typedef struct {
  uint64_t seed;
  int32_t left; /* words until new ones are made, and one more */
  int32_t seeded;
  uint64_t next;
  uint64_t words[WORDS];
} ol_twister;

static uint32_t twist(uint32_t a, uint32_t b) {
  const uint32_t mixed = (a & 0x80000000u) | (b & 0x7fffffffu);
  return (mixed >> 1) ^ ((0u - (b & 1u)) & 0x9908b0dfu);
}

static void renew(uint32_t *s) {
  for (int i = 0; i < WORDS - APART; ++i) s[i] = s[i + APART] ^ twist(s[i], s[i + 1]);
  for (int i = WORDS - APART; i < WORDS - 1; ++i) {
    s[i] = s[i + APART - WORDS] ^ twist(s[i], s[i + 1]);
  }
  s[WORDS - 1] = s[APART - 1] ^ twist(s[WORDS - 1], s[0]);
}

static void temper(const uint32_t *s, uint32_t *t) {
  for (int i = 0; i < WORDS; ++i) {
    uint32_t y = s[i];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    t[i] = y ^ (y >> 18);
  }
}

/* Whether 53 bits are below 2**32 * most + rest; compared as signed words, which every CPU has for
 * vectors. */
static float number(uint32_t high, uint32_t low, int32_t most, uint32_t rest) {
  const int32_t first = (int32_t)(high & 0x1fffffu);
  const int32_t is_less = (int32_t)(low ^ 0x80000000u) < (int32_t)(rest ^ 0x80000000u);
  return (float)((first < most) | ((first == most) & is_less));
}

/* count numbers that are 1 with a chance of threshold / 2**53; the state is that after them. */
void ol_bernoulli(ol_twister *state, uint64_t threshold, float *out, int64_t count) {
  const int32_t most = (int32_t)(threshold >> 32);
  const uint32_t rest = (uint32_t)threshold;
  uint32_t s[WORDS], t[WORDS];
  if (count <= 0) return;
  for (int i = 0; i < WORDS; ++i) s[i] = (uint32_t)state->words[i];
  temper(s, t);
  int at = WORDS + 1 - state->left;
  for (int64_t done = 0; done < count;) {
    const int64_t pairs = (WORDS - at) / 2;
    const int64_t here = count - done < pairs ? count - done : pairs;
    for (int64_t i = 0; i < here; ++i) {
      out[done + i] = number(t[at + 2 * i], t[at + 2 * i + 1], most, rest);
    }
    at += (int)(2 * here);
    done += here;
    if (done == count) break;
    const int is_odd = at < WORDS; /* one word is left, the first of a pair */
    const uint32_t high = t[WORDS - 1];
    renew(s);
    temper(s, t);
    at = is_odd;
    if (is_odd) out[done++] = number(high, t[0], most, rest);
  }
  for (int i = 0; i < WORDS; ++i) state->words[i] = s[i];
  state->left = WORDS + 1 - at;
  state->next = (uint64_t)at;
}
