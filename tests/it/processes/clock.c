/* Puts the wall clock of a program ahead, for tests that let it sleep for hours or look at it a
 * minute later. Preloaded, it stands before the C library's clock_gettime and gettimeofday. How far
 * ahead is a number of seconds, eight bytes in the file that DRIFTLESS_TEST_CLOCK names; the program
 * sees a change of it at once. The steady clock is left alone, as it is in a sleep on Linux. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_day)(struct timeval *, void *);
static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    real_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real_day = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    const char *path = getenv("DRIFTLESS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    ahead = map == MAP_FAILED ? 0 : map;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_clock) begin();
    int failed = real_clock(clock, time);
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!failed && ahead && wall) time->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    if (!real_day) begin();
    int failed = real_day(time, zone);
    if (!failed && ahead) time->tv_sec += *ahead;
    return failed;
}
