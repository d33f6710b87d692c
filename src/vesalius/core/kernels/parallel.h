/* Shares of a range on several threads. Torch and these kernels never compute at the same time, so threads live as long as one call.
   Nothing else is shared by the kernels: they keep no state. */
#ifndef PARALLEL_H
#define PARALLEL_H
#include <stdint.h>

typedef void (*Share)(void *of, int64_t first, int64_t end);

/* Calls `share(of, first, end)` for `threads` parts of 0 ... `count`, at once. */
void in_shares(Share share, void *of, int64_t count, int64_t threads);

#endif
