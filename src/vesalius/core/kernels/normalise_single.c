/* Normalisation of maps in single precision: the same once more. */
#define SINGLE
#define normalise_forward normalise_single_forward
#define normalise_backward normalise_single_backward
#include "normalise.c"
#include "normalise_back.c"
