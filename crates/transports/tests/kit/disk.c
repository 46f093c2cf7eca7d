/* A disk that fails when it is told to, between a process and its C library (LD_PRELOAD).
 *
 * Of files below DISK_DIRECTORY, but for locks and shared memory:
 *  - DISK_ORDERS names a file whose text says what fails: "full <bytes>" leaves so many bytes by which files can grow
 *    (files that are removed or cut give theirs back); "write" and "sync" fail with EIO, "sync <suffix>" those of files
 *    with that suffix. A failed synchronization has not happened. "hang <number>" lets so many synchronizations pass, and
 *    the next one waits until there is another order, and with it every change. While it waits there is a file with
 *    the name of DISK_ORDERS and ".hangs". "remove <number> <name>" lets so many calls pass that open or change files, and
 *    removes the file with that name in the directory then; "replace <number> <name>" puts a copy in its place. After
 *    that there is a file with the name of DISK_ORDERS and ".taken".
 *  - DISK_JOURNAL names a file to which every change is written with what was there before, and every synchronization
 *    after it has succeeded: from it, what a disk may hold after a loss of power can be computed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *directory, *orders_path;
static int journal = -1;
static char orders[128];
static int64_t room;
static long passing;

/* Some servers write their title over their environment. */
static const char *copy_of(const char *name) {
    const char *value = getenv(name);
    return value ? strdup(value) : NULL;
}

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    directory = copy_of("DISK_DIRECTORY");
    orders_path = copy_of("DISK_ORDERS");
    const char *path = getenv("DISK_JOURNAL");
    if (path) journal = real_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static int has_suffix(const char *text, const char *suffix) {
    size_t length = strlen(text), end = strlen(suffix);
    return length >= end && !strcmp(text + length - end, suffix);
}

static int is_ours(const char *path) {
    return directory && !strncmp(path, directory, strlen(directory)) && !has_suffix(path, "-shm") &&
           !has_suffix(path, ".lock");
}

/* The path of a descriptor, if it is one of ours and a regular file. */
static int path_of(int fd, char *path, size_t size) {
    char link[64];
    struct stat status;
    if (!directory) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path) && !fstat(fd, &status) && S_ISREG(status.st_mode);
}

static void read_orders(void) {
    char now[sizeof orders] = "";
    if (!orders_path) return;
    int fd = real_open(orders_path, O_RDONLY);
    if (fd >= 0) {
        ssize_t length = read(fd, now, sizeof now - 1);
        now[length > 0 ? length : 0] = 0;
        close(fd);
    }
    if (strcmp(now, orders)) {
        strcpy(orders, now);
        if (!strncmp(orders, "full", 4)) room = atoll(orders + 4);
        if (!strncmp(orders, "hang", 4)) passing = atol(orders + 4);
        if (!strncmp(orders, "remove", 6)) passing = atol(orders + 6);
        if (!strncmp(orders, "replace", 7)) passing = atol(orders + 7);
    }
}

/* After each call, with the lock: a file may be taken away now. */
static void take(void) {
    char path[512], copy[520], mark[512], buffer[65536];
    int replaces = !strncmp(orders, "replace", 7);
    if (!replaces && strncmp(orders, "remove", 6)) return;
    if (passing-- != 0) return;
    snprintf(path, sizeof path, "%s/%s", directory, strrchr(orders, ' ') + 1);
    snprintf(copy, sizeof copy, "%s.copy", path);
    int taken;
    if (replaces) {
        int from = real_open(path, O_RDONLY), to = real_open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        ssize_t length;
        while ((length = read(from, buffer, sizeof buffer)) > 0)
            if (real_write(to, buffer, length) != length) abort();
        /* The first descriptor stays open: to close one of a database ends the locks on it. */
        close(to);
        taken = from >= 0 && !rename(copy, path);
    } else {
        taken = !real_unlink(path);
    }
    if (!taken) {
        /* It is not there yet. */
        passing = 0;
        return;
    }
    snprintf(mark, sizeof mark, "%s.taken", orders_path);
    close(real_open(mark, O_WRONLY | O_CREAT, 0600));
}

/* 0, or why a change that makes a file this much larger fails. */
static int fault(int64_t growth) {
    read_orders();
    if (!strncmp(orders, "write", 5)) return EIO;
    if (!strncmp(orders, "full", 4)) {
        if (growth > room) return ENOSPC;
        room -= growth;
    }
    return 0;
}

/* kind: 'w' of length bytes at offset, 't' to offset bytes, 's'. */
static void note(char kind, int fd, const char *path, uint64_t offset, const void *data, uint64_t length) {
    if (journal < 0) return;
    struct stat status;
    fstat(fd, &status);
    uint64_t size = status.st_size, name = strlen(path), old = 0;
    if (kind == 'w' && offset < size) old = size - offset < length ? size - offset : length;
    if (kind == 't' && offset < size) old = size - offset;
    uint64_t head[6] = {(uint64_t)kind, name, offset, length, size, old};
    char *record = malloc(sizeof head + name + length + old), *end = record;
    memcpy(end, head, sizeof head), end += sizeof head;
    memcpy(end, path, name), end += name;
    if (length) memcpy(end, data, length), end += length;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (old) {
        int reader = real_open(link, O_RDONLY);
        if (pread(reader, end, old, offset) != (ssize_t)old) abort();
        close(reader), end += old;
    }
    if (real_write(journal, record, end - record) != end - record) abort();
    free(record);
}

static int64_t growth(int fd, uint64_t end) {
    struct stat status;
    return fstat(fd, &status) || end <= (uint64_t)status.st_size ? 0 : (int64_t)(end - status.st_size);
}

ssize_t write(int fd, const void *data, size_t length) {
    char path[512];
    if (!path_of(fd, path, sizeof path)) return real_write(fd, data, length);
    pthread_mutex_lock(&lock);
    off_t offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t result = -1;
    int error = fault(growth(fd, offset + length));
    if (error) errno = error;
    else {
        note('w', fd, path, offset, data, length);
        result = real_write(fd, data, length);
    }
    take();
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    char path[512];
    if (!path_of(fd, path, sizeof path)) return real_pwrite(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t result = -1;
    int error = fault(growth(fd, offset + length));
    if (error) errno = error;
    else {
        note('w', fd, path, offset, data, length);
        result = real_pwrite(fd, data, length, offset);
    }
    take();
    pthread_mutex_unlock(&lock);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

int ftruncate64(int fd, off_t length) {
    char path[512];
    if (!path_of(fd, path, sizeof path)) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    struct stat status;
    fstat(fd, &status);
    int result = -1, error = fault(growth(fd, length));
    if (error) errno = error;
    else {
        if (length < status.st_size) room += status.st_size - length;
        note('t', fd, path, length, NULL, 0);
        result = real_ftruncate(fd, length);
    }
    take();
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synchronize(int fd, int (*real)(int)) {
    char path[512];
    if (!path_of(fd, path, sizeof path)) return real(fd);
    pthread_mutex_lock(&lock);
    read_orders();
    if (!strncmp(orders, "hang", 4) && passing <= 0) {
        char mark[512];
        snprintf(mark, sizeof mark, "%s.hangs", orders_path);
        close(real_open(mark, O_WRONLY | O_CREAT, 0600));
        while (!strncmp(orders, "hang", 4) && passing <= 0) {
            usleep(2000);
            read_orders();
        }
        real_unlink(mark);
    }
    if (!strncmp(orders, "hang", 4)) passing--;
    int fails = !strncmp(orders, "sync", 4) && (!orders[4] || has_suffix(path, orders + 5));
    /* Nobody writes meanwhile, so that it is plain what was synchronized. */
    int result = fails ? -1 : real(fd);
    if (fails) errno = EIO;
    else if (!result) note('s', fd, path, 0, NULL, 0);
    take();
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synchronize(fd, real_fsync); }
int fdatasync(int fd) { return synchronize(fd, real_fdatasync); }

int open64(const char *path, int flags, ...) {
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    /* Other libraries may open something before ours has started. */
    if (!real_open) real_open = dlsym(RTLD_NEXT, "open64");
    int result = real_open(path, flags, mode);
    if (is_ours(path)) {
        pthread_mutex_lock(&lock);
        int error = errno;
        read_orders();
        take();
        errno = error;
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return open64(path, flags, mode);
}

int unlink(const char *path) {
    struct stat status;
    if (is_ours(path) && !stat(path, &status)) {
        pthread_mutex_lock(&lock);
        room += status.st_size;
        pthread_mutex_unlock(&lock);
    }
    return real_unlink(path);
}
