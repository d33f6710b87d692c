/* Shares of a range on several threads, for all kernels; see parallel.h. Nothing is kept from one call to the next, so any number of threads
   of Python may call at once. Where no thread is to be had, the caller does its share too. */
#include "parallel.h"
#include <pthread.h>

enum { MOST = 64 };

typedef struct {
    Share share;
    void *of;
    int64_t first, end;
} Part;

static void *run(void *given) {
    Part *part = given;
    part->share(part->of, part->first, part->end);
    return 0;
}

void in_shares(Share share, void *of, int64_t count, int64_t threads) {
    pthread_t ids[MOST];
    Part parts[MOST];
    int started[MOST];
    if (threads > MOST) threads = MOST;
    if (threads > count) threads = count;
    for (int64_t k = 1; k < threads; k++) {
        parts[k] = (Part){share, of, count * k / threads, count * (k + 1) / threads};
        started[k] = pthread_create(&ids[k], 0, run, &parts[k]) == 0;
    }
    share(of, 0, threads > 1 ? count / threads : count);
    for (int64_t k = 1; k < threads; k++) {
        if (started[k])
            pthread_join(ids[k], 0);
        else
            run(&parts[k]); /* no thread was to be had */
    }
}
