/* How the voxels of two maps see each other, for every convolution that is worked out as it is (direct.h, direct_full.h).

   A convolution sees voxel `at * step + place - pad` of the fine map, its input, from voxel `at` of the coarse one, at each place of its
   kernel and along each axis. A transposed convolution goes the other way. */
#ifndef EXTENT_H
#define EXTENT_H
#include <stdint.h>

typedef struct {
    int64_t batch, fine[3], coarse[3], side[3], step[3], pad[3];
} Extent;

static inline int64_t places_of(const Extent *extent) { return extent->side[0] * extent->side[1] * extent->side[2]; }

/* The voxel of the fine map that is seen along an axis, -1 beyond the map. */
static inline int64_t seen(const Extent *extent, int axis, int64_t at, int64_t place) {
    int64_t found = at * extent->step[axis] + place - extent->pad[axis];
    return found >= 0 && found < extent->fine[axis] ? found : -1;
}

#endif
