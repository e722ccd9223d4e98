/* Puts the wall clock of a program ahead, for tests that let it sleep for hours or look at it a
 * minute later. Preloaded, it stands before the C library's clock_gettime. How far ahead is a
 * number of nanoseconds, eight bytes in the file that DRIFTLESS_TEST_CLOCK names; the program sees
 * a change of it at once. The steady clock is left alone, as it is in a sleep on Linux. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static volatile int64_t *ahead;

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("DRIFTLESS_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    ahead = map == MAP_FAILED ? 0 : map;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real) begin();
    int failed = real(clock, time);
    if (!failed && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanoseconds = time->tv_nsec + *ahead % 1000000000;
        time->tv_sec += *ahead / 1000000000 + nanoseconds / 1000000000;
        time->tv_nsec = nanoseconds % 1000000000;
    }
    return failed;
}
