/* SPDX-License-Identifier: Apache-2.0 */
/* See census.h. */
#include "config.h"

#include "tests/fault/census.h"
#include "tests/fault/scene.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SETTLE_S = 5 };

static bool own_network, own_shm;
static char tmp_folder[256];
static pid_t tmp_owner;

bool census_own_network(void) { return own_network; }

/* ---- the world ---- */

static bool raise_loopback(void)
{
    struct ifreq lo = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool up;

    if (fd < 0) return false;
    up = ioctl(fd, SIOCGIFFLAGS, &lo) == 0;
    lo.ifr_flags |= IFF_UP | IFF_RUNNING;
    up = up && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    close(fd);
    return up;
}

/* Removes what a failing test may have left there too. */
static void remove_tmp(void)
{
    DIR *dir;

    if (getpid() != tmp_owner || !(dir = opendir(tmp_folder))) return;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) unlinkat(dirfd(dir), e->d_name, 0);
    }
    closedir(dir);
    rmdir(tmp_folder);
}

static void make_tmp(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(tmp_folder, sizeof(tmp_folder), "%s/medley-test.XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(tmp_folder)) abort();
    setenv("TMPDIR", tmp_folder, 1);
    tmp_owner = getpid();
    atexit(remove_tmp);
}

void census_enter_world(void)
{
    own_network = unshare(CLONE_NEWNET) == 0;
    if (!own_network)
        printf("not counted: sockets, for want of a network namespace (%s)\n", strerror(errno));
    else if (!raise_loopback())
        abort();
    own_shm = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777") == 0;
    if (!own_shm) printf("not counted: files in /dev/shm, for want of one of our own (%s)\n", strerror(errno));
    make_tmp();
}

/* ---- counting ---- */

static int entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int n = 0;

    if (!dir) return -1;
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2; /* "." and ".." */
}

/* Lines of a file; with `state`, those whose fourth word it is (as the socket's state in /proc/net/tcp). */
static int lines(const char *path, const char *state)
{
    FILE *f = fopen(path, "r");
    char line[4096], word[16];
    int n = 0;

    if (!f) return -1;
    while (fgets(line, sizeof(line), f)) {
        if (!state)
            n++;
        else if (sscanf(line, "%*s %*s %*s %15s", word) == 1)
            n += strcmp(word, state) == 0;
    }
    fclose(f);
    return n;
}

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = -1;

    if (!f) return -1;
    if (fscanf(f, "%*s %ld", &pages) != 1) pages = -1;
    fclose(f);
    return pages < 0 ? -1 : pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Sanitizers keep what is freed for a while, and have an allocator of their own: their leak check has to do. */
static void count_memory(struct census *c)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    struct mallinfo2 m = mallinfo2();
    c->heap_bytes = (long)(m.uordblks + m.hblkhd);
#else
    c->heap_bytes = -1;
#endif
    c->mappings = lines("/proc/self/maps", NULL);
    c->resident_kib = resident_kib();
    if (scene_sanitized()) c->heap_bytes = c->resident_kib = c->mappings = -1;
}

static void count_world(struct census *c)
{
    c->shm_files = own_shm ? entries("/dev/shm") : -1;
    c->tmp_files = *tmp_folder ? entries(tmp_folder) : -1;
    c->unix_sockets = own_network ? lines("/proc/self/net/unix", NULL) : -1;
    c->listeners = own_network ? lines("/proc/self/net/tcp", "0A") + lines("/proc/self/net/tcp6", "0A") : -1;
}

void census_take(struct census *c)
{
    count_memory(c);
    count_world(c);
    c->fds = entries("/proc/self/fd") - 1; /* but the one that counts */
    c->threads = entries("/proc/self/task");
}

/* ---- comparing ---- */

static bool over(const char *name, long before, long now, long margin, const char *what, bool say)
{
    if (before < 0 || now < 0 || now <= before + margin) return false;
    if (say)
        fprintf(stderr, "%s: %s were %ld and are %ld%s\n", what, name, before, now,
                margin ? ", beyond the margin" : "");
    return true;
}

static bool world_over(const struct census *a, const struct census *b, const char *what, bool say)
{
    bool more = over("files in /dev/shm", a->shm_files, b->shm_files, 0, what, say);

    more |= over("files in $TMPDIR", a->tmp_files, b->tmp_files, 0, what, say);
    more |= over("Unix sockets", a->unix_sockets, b->unix_sockets, 0, what, say);
    return over("listening sockets", a->listeners, b->listeners, 0, what, say) || more;
}

static bool process_over(const struct census *a, const struct census *b, const struct census_margin *m,
                         const char *what, bool say)
{
    bool more = over("descriptors", a->fds, b->fds, 0, what, say);

    more |= over("threads", a->threads, b->threads, scene_sanitized() ? 1 : 0, what, say); /* it may start its own */
    more |= over("mappings", a->mappings, b->mappings, m->mappings, what, say);
    more |= over("KiB resident", a->resident_kib, b->resident_kib, m->resident_kib, what, say);
    return over("bytes of heap", a->heap_bytes, b->heap_bytes, m->heap_bytes, what, say) || more;
}

bool census_back_to(const struct census *before, const struct census_margin *margin, const char *what)
{
    double until = scene_now() + SETTLE_S;
    struct census now;

    for (;;) {
        bool last = scene_now() > until, more;
        census_take(&now);
        more = world_over(before, &now, what, last);
        more |= process_over(before, &now, margin, what, last);
        if (!more || last) return !more;
        scene_sleep_ms(2);
    }
}

bool census_world_back_to(const struct census *before, const char *what)
{
    double until = scene_now() + SETTLE_S;
    struct census now;

    for (;;) {
        bool last = scene_now() > until, more;
        count_world(&now);
        more = world_over(before, &now, what, last);
        if (!more || last) return !more;
        scene_sleep_ms(2);
    }
}
