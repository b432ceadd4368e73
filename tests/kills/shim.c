/* Before the N-th event on a file below a folder, the process sends itself a signal. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *root, *watched;
static int at, number, seen, renamed;

/* The event before which the signal is sent (0: none), and the end of the name whose first renaming is remembered. */
void arm(const char *folder, const char *end, int event, int sent) {
    root = strdup(folder), watched = strdup(end), at = event, number = sent, seen = renamed = 0;
}
void disarm(void) { root = NULL; }
int events(void) { return seen; }
int first_rename(void) { return renamed; }

static void happens(const char *path, int is_rename) {
    if (!root || !strstr(path, root)) return;
    seen++;
    size_t n = strlen(path), m = strlen(watched);
    if (is_rename && !renamed && n >= m && !strcmp(path + n - m, watched)) renamed = seen;
    if (seen == at) kill(getpid(), number);
}

static void on_name(int folder, const char *name, int is_rename) {
    char link[64], path[2 * PATH_MAX] = "";
    if (!root) return;
    if (name[0] != '/') {
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, path, PATH_MAX);
        path[n > 0 ? n : 0] = 0;
        strncat(path, "/", 2);
    }
    strncat(path, name, PATH_MAX - 1);
    happens(path, is_rename);
}

static void on_file(int file) {
    char link[64], path[PATH_MAX];
    if (!root) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n > 0) { path[n] = 0; happens(path, 0); }
}

#define NEXT(name) static __typeof__(name) *next; if (!next) next = dlsym(RTLD_NEXT, #name)
#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); }
#define WRITES (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

#define OPEN(name) int name(const char *path, int flags, ...) { \
    NEXT(name); MODE; if (WRITES) on_name(AT_FDCWD, path, 0); return next(path, flags, mode); }
OPEN(open) OPEN(open64)
#define OPENAT(name) int name(int folder, const char *path, int flags, ...) { \
    NEXT(name); MODE; if (WRITES) on_name(folder, path, 0); return next(folder, path, flags, mode); }
OPENAT(openat) OPENAT(openat64)

int rename(const char *a, const char *b) { NEXT(rename); on_name(AT_FDCWD, b, 1); return next(a, b); }
int renameat(int f, const char *a, int g, const char *b) { NEXT(renameat); on_name(g, b, 1); return next(f, a, g, b); }
int renameat2(int f, const char *a, int g, const char *b, unsigned flags) {
    NEXT(renameat2); on_name(g, b, 1); return next(f, a, g, b, flags); }
int unlink(const char *path) { NEXT(unlink); on_name(AT_FDCWD, path, 0); return next(path); }
int unlinkat(int f, const char *path, int flags) { NEXT(unlinkat); on_name(f, path, 0); return next(f, path, flags); }
int mkdir(const char *path, mode_t mode) { NEXT(mkdir); on_name(AT_FDCWD, path, 0); return next(path, mode); }
int mkdirat(int f, const char *path, mode_t mode) { NEXT(mkdirat); on_name(f, path, 0); return next(f, path, mode); }
int rmdir(const char *path) { NEXT(rmdir); on_name(AT_FDCWD, path, 0); return next(path); }
int fsync(int file) { NEXT(fsync); on_file(file); return next(file); }
int fdatasync(int file) { NEXT(fdatasync); on_file(file); return next(file); }
int ftruncate(int file, off_t size) { NEXT(ftruncate); on_file(file); return next(file, size); }
int ftruncate64(int file, off64_t size) { NEXT(ftruncate64); on_file(file); return next(file, size); }
ssize_t pwrite(int file, const void *b, size_t n, off_t o) { NEXT(pwrite); on_file(file); return next(file, b, n, o); }
ssize_t pwrite64(int file, const void *b, size_t n, off64_t o) { NEXT(pwrite64); on_file(file); return next(file, b, n, o); }
