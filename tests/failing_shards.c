/* Preloaded into a process with a hub: once the file that FAIL_SHARDS names exists, a shard cannot wait for readiness any
   more, as if the system had failed. Nothing of this is in the hub. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
    int (*wait)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");
    int ready = wait(epoll, events, count, timeout);
    const char *file = getenv("FAIL_SHARDS");
    char thread[16] = "";
    if (file && prctl(PR_GET_NAME, thread) == 0 && strcmp(thread, "petasos-shard") == 0 && access(file, F_OK) == 0) {
        errno = EBADF;
        return -1;
    }
    return ready;
}
