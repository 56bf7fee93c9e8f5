/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments. A place to take the memory from is tried after the other: memfd, an unlinked file in /dev/shm, one in
 * $TMPDIR or /tmp. A place that is refused or full hands on to the next. If all were refused the memory is ordinary and
 * cannot be shared; if one was full that is the error, because the user can make room there.
 *
 * A place is used only when the pages are reserved (unless the segment is sparse), so that no later store meets SIGBUS.
 */
#include "config.h"
#include "lib/base/log.h"
#include "lib/mem/registry.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum { LOWEST_FD = 3, RESERVE_STEP = 32 << 20, HUGE_PAGE = 2 << 20 };

/* A large file begins at a huge page's boundary in everybody's address space: else its huge pages are mapped as small
 * ones. MAP_FAILED: errno says why. */
static void *map_shared(int fd, size_t len)
{
    if (len < HUGE_PAGE) return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *room = mmap(NULL, len + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) return MAP_FAILED;
    size_t head = (size_t)(-(uintptr_t)room % HUGE_PAGE);
    void *base = mmap(room + head, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        int err = errno;
        munmap(room, len + HUGE_PAGE);
        errno = err;
        return MAP_FAILED;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE), used = (head + len + page - 1) / page * page;
    if (head) munmap(room, head);
    if (used < len + HUGE_PAGE) munmap(room + used, len + HUGE_PAGE - used);
    return base;
}

/* ---- places ---- */

/* A descriptor 0, 1 or 2 (of a program that closed them) would be written to by printf. */
static int move_up(int fd)
{
    if (fd < 0 || fd >= LOWEST_FD) return fd;
    int higher = fcntl(fd, F_DUPFD_CLOEXEC, LOWEST_FD);
    int err = errno;
    close(fd);
    errno = err;
    return higher;
}

static int open_memfd(const char *folder)
{
    (void)folder;
#ifdef SYS_memfd_create
    /* Newer kernels may insist on the no-exec flag, older ones do not know it. */
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = (int)syscall(SYS_memfd_create, "medley", flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = (int)syscall(SYS_memfd_create, "medley", flags);
    return fd;
#else
    errno = ENOSYS;
    return -1;
#endif
}

static int open_unlinked(const char *folder)
{
    char path[PATH_MAX];
    int fd = open(folder, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    /* Not every file system can make a file without a name. */
    if ((size_t)snprintf(path, sizeof(path), "%s/medley-XXXXXX", folder) >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    return fd;
}

struct place {
    const char *name;
    int (*open)(const char *folder);
    const char *folder;
};
enum { NUM_PLACES = 3 };

static void list_places(struct place places[NUM_PLACES])
{
    const char *tmp = secure_getenv("TMPDIR");
    places[0] = (struct place){"memfd", open_memfd, NULL};
    places[1] = (struct place){"/dev/shm", open_unlinked, "/dev/shm"};
    places[2] = (struct place){tmp && *tmp ? tmp : "/tmp", open_unlinked, tmp && *tmp ? tmp : "/tmp"};
}

/* ---- sizing and reserving ---- */

/* Setting a size above RLIMIT_FSIZE would raise SIGXFSZ, which ends the process. */
static bool fits_file_limit(size_t len)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || len <= limit.rlim_cur;
}

static int set_size(int fd, size_t len)
{
    if (!fits_file_limit(len)) return EFBIG;
    while (ftruncate(fd, (off_t)len) != 0)
        if (errno != EINTR) return errno;
    return 0;
}

static int write_zeros(int fd, size_t from, size_t len)
{
    static const char zeros[1 << 16];
    while (len) {
        size_t step = len < sizeof(zeros) ? len : sizeof(zeros);
        ssize_t n = pwrite(fd, zeros, step, (off_t)from);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? errno : ENOSPC;
        from += (size_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* In steps, because a signal makes the kernel undo the step that it interrupts. */
static int reserve_blocks(int fd, size_t len)
{
    for (size_t done = 0, step; done < len; done += step) {
        step = len - done < RESERVE_STEP ? len - done : RESERVE_STEP;
        int err;
        do err = fallocate(fd, 0, (off_t)done, (off_t)step) == 0 ? 0 : errno;
        while (err == EINTR);
        if (err == EOPNOTSUPP || err == ENOSYS || err == EPERM) err = write_zeros(fd, done, step);
        if (err) return err;
    }
    return 0;
}

/* Through the mapping where huge pages are wanted: the kernel takes those only for faults in an advised mapping. */
static int reserve(int fd, void *base, size_t len, bool huge)
{
    if (huge && madvise(base, len, MADV_POPULATE_WRITE) == 0) return 0;
    return reserve_blocks(fd, len);
}

static int try_place(const struct place *place, size_t len, bool sparse, bool huge, struct mdl_segment *segment)
{
    int fd = move_up(place->open(place->folder));
    if (fd < 0) return errno;
    int err = set_size(fd, len);
    if (err) goto close_fd;
    void *base = map_shared(fd, len);
    if (base == MAP_FAILED) {
        err = errno;
        goto close_fd;
    }
    if (huge) (void)madvise(base, len, MADV_HUGEPAGE); /* advice: refused where there are none */
    if (!sparse && (err = reserve(fd, base, len, huge)) != 0) goto unmap;
    /* Most kernels give shared memory no huge pages by themselves, but make them of what is there. */
    if (!sparse && huge && len >= HUGE_PAGE) (void)madvise(base, len - len % HUGE_PAGE, MADV_COLLAPSE);
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL); /* plain files have no seals */
    segment->base = base;
    segment->len = len;
    segment->fd = fd;
    return 0;

unmap:
    munmap(base, len);
close_fd:
    close(fd);
    return err;
}

static int take_ordinary(size_t len, bool huge, struct mdl_segment *segment)
{
    void *base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return errno;
    if (huge) (void)madvise(base, len, MADV_HUGEPAGE);
    segment->base = base;
    segment->len = len;
    segment->fd = -1;
    return 0;
}

/* ---- create, destroy ---- */

static void warn_once(const char *refused, int err)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (atomic_flag_test_and_set_explicit(&warned, memory_order_relaxed)) return;
    char reason[128];
    MDL_WARN(MDL_MEM,
             "memory cannot be shared with other ranks of this host, so every transfer is copied: %s was refused last "
             "(%s); allow memfd_create, or make $TMPDIR writable",
             refused, strerror_r(err, reason, sizeof(reason)));
}

static bool is_full(int err) { return err == ENOSPC || err == EDQUOT; }

/* These mean that more memory than there is was asked for, whatever the place. */
static bool is_hopeless(int err) { return err == ENOMEM || err == EMFILE || err == ENFILE; }

static medleyResult_t take_memory(size_t len, bool sparse, bool huge, struct mdl_segment *segment)
{
    struct place places[NUM_PLACES];
    const struct place *full = NULL;
    list_places(places);
    int err = 0, full_err = 0;
    for (int i = 0; i < NUM_PLACES; i++) {
        err = try_place(&places[i], len, sparse, huge, segment);
        if (!err) return medleySuccess;
        if (is_hopeless(err)) return mdl_system_error(err, "%zu bytes of shared memory from %s", len, places[i].name);
        char reason[128];
        MDL_INFO(MDL_MEM, "no %zu bytes of shared memory from %s: %s", len, places[i].name,
                 strerror_r(err, reason, sizeof(reason)));
        if (!is_full(err)) continue;
        full = &places[i];
        full_err = err;
    }
    if (full) return mdl_system_error(full_err, "%zu bytes of shared memory in %s", len, full->name);
    warn_once(places[NUM_PLACES - 1].name, err);
    err = take_ordinary(len, huge, segment);
    return err ? mdl_system_error(err, "%zu bytes of memory", len) : medleySuccess;
}

static void give_back(struct mdl_segment *segment)
{
    if (segment->arena)
        mdl_arena_return(&segment->piece, segment->orphaned);
    else
        munmap(segment->base, segment->len);
    if (segment->fd >= 0) close(segment->fd);
    free(segment);
}

/* The kernel would not refuse to reserve more than there is: it would start to end processes. */
static bool exceeds_machine(size_t len, size_t page)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 && len / page > (size_t)pages;
}

/* Also for mdl_mem_alloc, whose segments the user may free (`user`). */
static medleyResult_t create(size_t len, bool sparse, bool huge, bool user, struct mdl_segment **segment)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (len == 0 || len > (size_t)PTRDIFF_MAX - page)
        return mdl_error(medleyInvalidArgument, "a segment of %zu bytes cannot be made", len);
    if (!sparse && exceeds_machine(len, page))
        return mdl_system_error(ENOMEM, "a segment of %zu bytes, more than this machine has", len);
    struct mdl_segment *made = calloc(1, sizeof(*made));
    if (!made) return mdl_system_error(ENOMEM, "a segment's record");

    medleyResult_t result = take_memory((len + page - 1) / page * page, sparse, huge, made);
    if (result != medleySuccess) goto free_record;
    result = mdl_registry_add(made, user);
    if (result != medleySuccess) goto give_memory_back;
    *segment = made;
    return medleySuccess;

give_memory_back:
    give_back(made);
    return result;
free_record:
    free(made);
    return result;
}

medleyResult_t mdl_segment_create(size_t len, bool sparse, bool huge, struct mdl_segment **segment)
{
    return create(len, sparse, huge, false, segment);
}

medleyResult_t mdl_segment_create_cut(size_t len, int nranks, struct mdl_segment **segment)
{
    struct mdl_segment *made = nranks > 1 && nranks <= MDL_ARENA_RANKS ? calloc(1, sizeof(*made)) : NULL;
    if (!made || !mdl_arena_cut(len, &made->arena, &made->piece)) {
        free(made);
        return create(len, true, false, false, segment);
    }
    made->base = made->piece.base;
    made->len = made->piece.len;
    made->fd = -1;
    made->withdrawn = true; /* it exists, but has no descriptor to give */
    medleyResult_t result = mdl_registry_add(made, false);
    if (result == medleySuccess)
        *segment = made;
    else
        give_back(made);
    return result;
}

int mdl_segment_memfd(uint64_t len)
{
    int fd = move_up(open_memfd(NULL));
    if (fd < 0) return fd;
    if (set_size(fd, len) != 0) {
        close(fd);
        return -1;
    }
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return fd;
}

medleyResult_t mdl_segment_create_private(size_t len, struct mdl_segment **segment)
{
    struct mdl_segment *made = calloc(1, sizeof(*made));
    if (!made) return mdl_system_error(ENOMEM, "a segment's record");
    int err = take_ordinary(len, false, made);
    medleyResult_t result = err ? mdl_system_error(err, "%zu bytes of memory", len) : mdl_registry_add(made, false);
    if (result == medleySuccess)
        *segment = made;
    else if (err)
        free(made);
    else
        give_back(made);
    return result;
}

bool mdl_segment_is_limited(const struct mdl_segment *segment)
{
    struct statfs fs;
    return segment->fd >= 0 && fstatfs(segment->fd, &fs) == 0 && fs.f_blocks != 0; /* a memfd has no limit: 0 blocks */
}

void mdl_segment_destroy(struct mdl_segment *segment)
{
    if (!segment) return;
    mdl_registry_remove(segment);
    give_back(segment);
}

void mdl_segment_withdraw(struct mdl_segment *segment)
{
    if (segment) mdl_registry_withdraw(segment);
}

int mdl_segment_dup_fd(uint64_t id) { return mdl_registry_dup_fd(id); }

void mdl_mem_describe(const void *ptr, size_t len, struct mdl_mem *mem)
{
    struct mdl_registry_hit hit;
    *mem = (struct mdl_mem){.kind = MDL_MEM_HOST, .ptr = (void *)(uintptr_t)ptr, .len = len, .dmabuf_fd = -1};
    if (!mdl_registry_find((uintptr_t)ptr, len, &hit) || hit.id == 0) return;
    mem->segment = hit.id;
    mem->offset = (uintptr_t)ptr - hit.base;
}

medleyResult_t mdl_mem_alloc(const struct mdl_config *cfg, size_t len, void **ptr)
{
    if (len == 0) {
        *ptr = NULL;
        return medleySuccess;
    }
    struct mdl_segment *segment;
    MDL_TRY(create(len, false, cfg->huge_pages, true, &segment));
    *ptr = segment->base;
    return medleySuccess;
}

medleyResult_t mdl_mem_free(void *ptr)
{
    if (!ptr) return medleySuccess;
    struct mdl_segment *segment = mdl_registry_take(ptr);
    if (!segment)
        return mdl_error(medleyInvalidArgument,
                         "medleyMemFree: %p is not what medleyMemAlloc returned, or was freed before", ptr);
    give_back(segment);
    return medleySuccess;
}

/* ---- segments of other ranks ---- */

medleyResult_t mdl_segment_import(int fd, size_t len, void **addr)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return mdl_system_error(errno, "looking at a peer's segment, descriptor %d", fd);
    if (!S_ISREG(st.st_mode) || len == 0 || st.st_size < 0 || (uint64_t)st.st_size < len)
        return mdl_error(medleyRemoteError,
                         "a peer's segment is refused: it should have %zu bytes, but is %s of %lld bytes", len,
                         S_ISREG(st.st_mode) ? "a file" : "something else", (long long)st.st_size);
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
        return mdl_error(medleyRemoteError, "a peer's segment is refused: it is sealed against writing");
    void *base = map_shared(fd, len);
    if (base == MAP_FAILED) return mdl_system_error(errno, "mapping %zu bytes of a peer's segment", len);
    *addr = base;
    return medleySuccess;
}

void mdl_segment_unimport(void *addr, size_t len)
{
    if (addr) munmap(addr, len);
}
