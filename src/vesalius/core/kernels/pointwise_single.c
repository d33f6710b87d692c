/* Means and sums of maps in single precision: the same once more. */
#define SINGLE
#define mean_pool mean_pool_full
#define add_leaky add_leaky_full
#include "pointwise.c"
