/* What every loop is given, and how it is compiled.

A loop takes an array of arguments, in the order of its row in module.c: arrays in C order, whole numbers, real numbers. Types,
contiguity and who is written to have been checked there; shapes are the caller's affair. Loops hold no Python object and run without
Python's lock. */

#ifndef MEDMI_LOOPS_H
#define MEDMI_LOOPS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define MOST_AXES 5
/* Points that are worked on at once: what is held of them stays in the nearest cache. */
#define BLOCK 256

typedef struct {
    void *data;
    int64_t shape[MOST_AXES];
    int64_t size;
    int64_t whole;
    double real;
} Argument;

/* Compiled once for every generation of processors, of which the best that is there is taken when the library is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define VECTOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTOR
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

INLINE float between(float value, float low, float high) {
    /* NaN compares false and ends at the low one. */
    value = value > low ? value : low;
    return value < high ? value : high;
}

INLINE int32_t at_most(int32_t value, int32_t most) { return value < most ? value : most; }

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Names are the library's own, whatever the C library calls so too. */
#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif
void pair_up(const Argument *a);
void sample(const Argument *a);
void settle_rim(const Argument *a);
void project(const Argument *a);
void keep(const Argument *a);
void pull_back(const Argument *a);
void compand(const Argument *a);
void histogram(const Argument *a);
void inform_tables(const Argument *a);
void inform_points(const Argument *a);
void inform_poses(const Argument *a);
void pick(const Argument *a);
void share_within(const Argument *a);
void chance(const Argument *a);
void scatter(const Argument *a);
void interpolate(const Argument *a);
void steepen(const Argument *a);
void see(const Argument *a);
void accumulate(const Argument *a);
void advance(const Argument *a);
void determinants(const Argument *a);
void slopes(const Argument *a);
void propose(const Argument *a);
void set_back(const Argument *a);
void settle(const Argument *a);
void update(const Argument *a);
void place_pair(const Argument *a);
void climb(const Argument *a);
void price_strain(const Argument *a);
void resample_rows(const Argument *a);
void add_moments_float(const Argument *a);
void add_moments_double(const Argument *a);
void read_slopes_float(const Argument *a);
void read_slopes_double(const Argument *a);
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
