/* Sums of logits in single precision: the same once more. */
#define SINGLE
#define soft_counts_forward soft_counts_single_forward
#define soft_counts_backward soft_counts_single_backward
#include "soft_counts.c"
