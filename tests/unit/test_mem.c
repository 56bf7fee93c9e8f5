/* SPDX-License-Identifier: Apache-2.0 */
/* Segments: what they promise, each place that they fall back to, full file systems, bad descriptors from peers, and
 * look-ups by many threads while segments come and go. */
#include "config.h"
#include "lib/base/log.h"
#include "lib/mem/mem.h"
#include "tests/unit/deny.h"
#include "tests/unit/unit.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#ifndef __O_TMPFILE
#define __O_TMPFILE 020000000
#endif

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static struct mdl_segment *make(size_t len)
{
    struct mdl_segment *s = NULL;
    ck_assert_msg(mdl_segment_create(len, false, false, &s) == medleySuccess, "%s", mdl_error_text());
    return s;
}

static struct mdl_mem describe(const void *ptr, size_t len)
{
    struct mdl_mem mem;
    mdl_mem_describe(ptr, len, &mem);
    ck_assert_int_eq(mem.kind, MDL_MEM_HOST);
    ck_assert_ptr_eq(mem.ptr, ptr);
    ck_assert_uint_eq(mem.len, len);
    ck_assert_int_eq(mem.dmabuf_fd, -1);
    return mem;
}

static int entries_in(const char *folder)
{
    DIR *dir = opendir(folder);
    ck_assert_msg(dir != NULL, "%s: %s", folder, strerror(errno));
    int n = 0;
    while (readdir(dir)) n++;
    closedir(dir);
    return n - 2;
}

static int open_descriptors(void) { return entries_in("/proc/self/fd"); }

static int warnings;
static char last_warning[512];
static void count_warnings(medleyLogLevel_t level, const char *subsystem, const char *message, void *user)
{
    (void)subsystem, (void)user;
    if (level != medleyLogWarn) return;
    warnings++;
    snprintf(last_warning, sizeof(last_warning), "%s", message);
}
static void catch_log(void)
{
    ck_assert_int_eq(mdl_log_set_callback(count_warnings, medleyLogTrace, NULL), medleySuccess);
}

/* ---- what a segment is ---- */

START_TEST(segment_is_zeroed_aligned_and_private_to_exec)
{
    struct mdl_segment *s = make(3 * page_size() + 1);
    ck_assert_uint_eq(s->len, 4 * page_size());
    ck_assert_uint_eq((uintptr_t)s->base % page_size(), 0);
    ck_assert_uint_ne(s->id, 0);
    ck_assert_int_ge(s->fd, 3);
    ck_assert_int_ne(fcntl(s->fd, F_GETFD) & FD_CLOEXEC, 0);
    for (size_t i = 0; i < s->len; i++) ck_assert_int_eq(((char *)s->base)[i], 0);
    memset(s->base, 0x5a, s->len);
    mdl_segment_destroy(s);
    mdl_segment_destroy(NULL);
}
END_TEST

START_TEST(memory_is_reserved_unless_sparse)
{
    struct mdl_segment *full = make(1 << 20), *sparse = NULL, *huge = NULL;
    ck_assert_int_eq(mdl_segment_create(1 << 20, true, true, &sparse), medleySuccess);
    ck_assert_int_eq(mdl_segment_create(4 << 20, false, true, &huge), medleySuccess);
    struct stat st;
    ck_assert_int_eq(fstat(full->fd, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 1 << 20);
    ck_assert_int_eq(fstat(huge->fd, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 4 << 20);
    ck_assert_int_eq(fstat(sparse->fd, &st), 0);
    ck_assert_int_eq(st.st_blocks, 0);
    mdl_segment_destroy(full);
    mdl_segment_destroy(sparse);
    mdl_segment_destroy(huge);
}
END_TEST

START_TEST(memfd_cannot_shrink)
{
    struct mdl_segment *s = make(2 * page_size());
    int fd = mdl_segment_dup_fd(s->id);
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    ck_assert_int_eq(errno, EPERM);
    close(fd);
    mdl_segment_destroy(s);
}
END_TEST

START_TEST(descriptor_is_never_a_standard_one)
{
    close(STDIN_FILENO);
    struct mdl_segment *s = make(1);
    ck_assert_int_ge(s->fd, 3);
    ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFD), -1);
    int fd = mdl_segment_dup_fd(s->id);
    ck_assert_int_ge(fd, 3);
    close(fd);
    mdl_segment_destroy(s);
}
END_TEST

START_TEST(impossible_sizes_are_errors)
{
    struct mdl_segment *s = (void *)1;
    catch_log();
    ck_assert_int_eq(mdl_segment_create(0, false, false, &s), medleyInvalidArgument);
    ck_assert_int_eq(mdl_segment_create(SIZE_MAX, false, false, &s), medleyInvalidArgument);
    ck_assert_int_eq(mdl_segment_create((size_t)1 << 60, false, false, &s), medleySystemError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "more than this machine has"));
    ck_assert_int_eq(mdl_segment_create((size_t)1 << 60, true, false, &s), medleySystemError);
    ck_assert_ptr_eq(s, (void *)1);
    ck_assert_int_eq(warnings, 4); /* each error once */
}
END_TEST

START_TEST(descriptor_limit_says_ulimit)
{
    struct mdl_segment *s = NULL;
    catch_log();
    int next = dup(0);
    close(next);
    struct rlimit before, limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = (struct rlimit){(rlim_t)next, before.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    medleyResult_t result = mdl_segment_create(1, false, false, &s);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0); /* a leak checker opens files at exit */
    ck_assert_int_eq(result, medleySystemError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "ulimit -n"));
}
END_TEST

START_TEST(file_size_limit_raises_no_signal)
{
    struct rlimit limit = {4096, 4096};
    catch_log();
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct mdl_segment *s = make(1 << 20);
    ck_assert_int_eq(s->fd, -1);
    ck_assert_int_eq(warnings, 1);
    mdl_segment_destroy(s);
}
END_TEST

/* ---- describing ---- */

START_TEST(describes_any_part)
{
    struct mdl_segment *a = make(2 * page_size()), *b = make(page_size());
    char *base = a->base;
    struct mdl_mem mem = describe(base, a->len);
    ck_assert_uint_eq(mem.segment, a->id);
    ck_assert_uint_eq(mem.offset, 0);
    mem = describe(base + 100, 1);
    ck_assert_uint_eq(mem.segment, a->id);
    ck_assert_uint_eq(mem.offset, 100);
    mem = describe(base + a->len - 1, 1);
    ck_assert_uint_eq(mem.segment, a->id);
    ck_assert_uint_eq(describe(base + 5, 0).segment, a->id);
    ck_assert_uint_eq(describe(b->base, b->len).segment, b->id);
    ck_assert_uint_ne(a->id, b->id);
    mdl_segment_destroy(a);
    ck_assert_uint_eq(describe(base, 1).segment, 0);
    mdl_segment_destroy(b);
}
END_TEST

START_TEST(describes_nothing_that_leaves_the_segment)
{
    int local = 0;
    ck_assert_uint_eq(describe(&local, sizeof(local)).segment, 0); /* empty registry */
    struct mdl_segment *s = make(page_size());
    char *base = s->base;
    ck_assert_uint_eq(describe(base, s->len + 1).segment, 0);
    ck_assert_uint_eq(describe(base + 1, s->len).segment, 0);
    ck_assert_uint_eq(describe(base + 1, SIZE_MAX).segment, 0);
    ck_assert_uint_eq(describe(base - 1, 1).segment, 0);
    ck_assert_uint_eq(describe(base - 1, 2).segment, 0);
    ck_assert_uint_eq(describe(base + s->len, 0).segment, 0);
    ck_assert_uint_eq(describe(NULL, 0).segment, 0);
    ck_assert_uint_eq(describe((void *)UINTPTR_MAX, 1).segment, 0);
    ck_assert_uint_eq(describe(&local, sizeof(local)).segment, 0);
    mdl_segment_destroy(s);
}
END_TEST

START_TEST(many_segments_in_any_order)
{
    enum { COUNT = 300 };
    struct mdl_segment *s[COUNT];
    for (int i = 0; i < COUNT; i++) s[i] = make(page_size() * (size_t)(1 + i % 3));
    for (int i = 0; i < COUNT; i++) ck_assert_uint_eq(describe(s[i]->base, s[i]->len).segment, s[i]->id);
    for (int i = 0; i < COUNT; i += 2) mdl_segment_destroy(s[i]);
    for (int i = 1; i < COUNT; i += 2) {
        ck_assert_uint_eq(describe(s[i]->base, s[i]->len).segment, s[i]->id);
        ck_assert_uint_eq(describe((char *)s[i]->base + s[i]->len - 1, 1).segment, s[i]->id);
    }
    for (int i = 1; i < COUNT; i += 2) mdl_segment_destroy(s[i]);
}
END_TEST

/* ---- sharing ---- */

START_TEST(a_duplicate_maps_the_same_memory)
{
    struct mdl_segment *s = make(page_size());
    int fd = mdl_segment_dup_fd(s->id);
    ck_assert_int_ge(fd, 3);
    ck_assert_int_ne(fd, s->fd);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    void *addr = NULL;
    ck_assert_int_eq(mdl_segment_import(fd, s->len, &addr), medleySuccess);
    close(fd);
    strcpy(s->base, "from the owner");
    ck_assert_str_eq(addr, "from the owner");
    strcpy(addr, "from the peer");
    ck_assert_str_eq(s->base, "from the peer");
    uint64_t id = s->id;
    size_t len = s->len;
    mdl_segment_destroy(s);
    ck_assert_str_eq(addr, "from the peer"); /* the pages live as long as someone maps them */
    ck_assert_int_eq(mdl_segment_dup_fd(id), -1);
    ck_assert_int_eq(errno, ENOENT);
    errno = 0;
    ck_assert_int_eq(mdl_segment_dup_fd(0), -1);
    ck_assert_int_eq(errno, ENOENT);
    mdl_segment_unimport(addr, len);
    mdl_segment_unimport(NULL, len);
}
END_TEST

static void import_refused(int fd, size_t len, const char *why)
{
    void *addr = (void *)1;
    ck_assert_int_ne(mdl_segment_import(fd, len, &addr), medleySuccess);
    ck_assert_ptr_eq(addr, (void *)1);
    ck_assert_msg(strstr(mdl_error_text(), why) != NULL, "'%s' lacks '%s'", mdl_error_text(), why);
}

START_TEST(import_refuses_what_would_fault)
{
    catch_log();
    int fd = memfd_create("t", MFD_ALLOW_SEALING | MFD_CLOEXEC), ends[2];
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    import_refused(fd, 4097, "should have 4097 bytes");
    import_refused(fd, 0, "should have 0 bytes");
    import_refused(fd, SIZE_MAX, "4096 bytes");
    import_refused(-1, 4096, "descriptor -1");
    ck_assert_int_eq(pipe(ends), 0);
    import_refused(ends[0], 4096, "something else");
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    import_refused(fd, 4096, "sealed");
    close(fd);
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    import_refused(fd, 4096, "mapping"); /* not open for writing */
    close(fd);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

/* ---- medleyMemAlloc ---- */

START_TEST(alloc_and_free)
{
    struct mdl_config cfg;
    void *p = NULL, *empty = &cfg;
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    ck_assert_int_eq(mdl_mem_alloc(&cfg, 100000, &p), medleySuccess);
    memset(p, 1, 100000);
    ck_assert_uint_ne(describe(p, 100000).segment, 0);
    ck_assert_int_eq(mdl_mem_free(p), medleySuccess);
    ck_assert_uint_eq(describe(p, 100000).segment, 0);
    ck_assert_int_eq(mdl_mem_alloc(&cfg, 0, &empty), medleySuccess);
    ck_assert_ptr_null(empty);
    ck_assert_int_eq(mdl_mem_free(NULL), medleySuccess);
}
END_TEST

START_TEST(free_of_anything_else_is_refused)
{
    struct mdl_config cfg;
    int local = 0;
    char *p = NULL;
    catch_log();
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    ck_assert_int_eq(mdl_mem_alloc(&cfg, 100000, (void **)&p), medleySuccess);
    struct mdl_segment *internal = make(1);
    ck_assert_int_eq(mdl_mem_free(&local), medleyInvalidArgument);
    ck_assert_int_eq(mdl_mem_free(p + 1), medleyInvalidArgument);
    ck_assert_int_eq(mdl_mem_free(p + page_size()), medleyInvalidArgument);
    ck_assert_int_eq(mdl_mem_free(internal->base), medleyInvalidArgument);
    ck_assert_int_eq(mdl_mem_free(p), medleySuccess);
    ck_assert_int_eq(mdl_mem_free(p), medleyInvalidArgument);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "freed before"));
    mdl_segment_destroy(internal);
}
END_TEST

START_TEST(nothing_leaks)
{
    struct mdl_config cfg;
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    int before = open_descriptors();
    for (int i = 0; i < 1000; i++) {
        void *p;
        ck_assert_int_eq(mdl_mem_alloc(&cfg, 1, &p), medleySuccess);
        ck_assert_int_eq(mdl_mem_free(p), medleySuccess);
    }
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* ---- fallbacks ---- */

static const struct deny no_memfd_eperm = {.call = SYS_memfd_create, .err = EPERM};
static const struct deny no_memfd_enosys = {.call = SYS_memfd_create, .err = ENOSYS};
static const struct deny no_open_eacces = {.call = SYS_openat, .err = EACCES};
static const struct deny no_tmpfile = {.call = SYS_openat, .err = EOPNOTSUPP, .arg = 2, .mask = __O_TMPFILE};
static const struct deny no_fallocate = {.call = SYS_fallocate, .err = EPERM};
static const struct deny no_seals = {.call = SYS_fcntl, .err = EINVAL, .arg = 1, .mask = F_ADD_SEALS};

/* The segment can be shared, is reserved, and has left no name behind. */
static void works_unnamed(void)
{
    int names = entries_in("/dev/shm");
    struct mdl_segment *s = make(100000);
    ck_assert_int_ge(s->fd, 3);
    ck_assert_int_ne(fcntl(s->fd, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_eq(entries_in("/dev/shm"), names);
    struct stat st;
    ck_assert_int_eq(fstat(s->fd, &st), 0);
    ck_assert_int_ge(st.st_blocks * 512, 100000);
    ck_assert_int_eq(st.st_nlink, 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    int fd = mdl_segment_dup_fd(describe(s->base, 1).segment);
    char *addr = NULL;
    ck_assert_int_eq(mdl_segment_import(fd, s->len, (void **)&addr), medleySuccess);
    close(fd);
    strcpy(s->base, "shared");
    ck_assert_str_eq(addr, "shared");
    mdl_segment_unimport(addr, s->len);
    mdl_segment_destroy(s);
}

START_TEST(memfd_refused_with_eperm)
{
    if (!deny_calls(&no_memfd_eperm, 1)) return;
    works_unnamed();
}
END_TEST

START_TEST(memfd_refused_with_enosys_and_no_tmpfile)
{
    const struct deny list[] = {no_memfd_enosys, no_tmpfile};
    if (!deny_calls(list, 2)) return;
    works_unnamed();
}
END_TEST

START_TEST(fallocate_refused)
{
    const struct deny list[] = {no_memfd_eperm, no_fallocate};
    if (!deny_calls(list, 2)) return;
    works_unnamed();
}
END_TEST

START_TEST(seals_refused)
{
    if (!deny_calls(&no_seals, 1)) return;
    struct mdl_segment *s = make(1);
    ck_assert_int_ge(s->fd, 3);
    mdl_segment_destroy(s);
}
END_TEST

START_TEST(everything_refused_gives_ordinary_memory)
{
    const struct deny list[] = {no_memfd_eperm, no_open_eacces};
    struct mdl_config cfg;
    catch_log();
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    size_t page = page_size();
    if (!deny_calls(list, 2)) return;
    struct mdl_segment *s = make(3 * page);
    ck_assert_int_eq(s->fd, -1);
    memset(s->base, 7, s->len);
    ck_assert_uint_eq(describe(s->base, s->len).segment, 0);
    ck_assert_int_eq(mdl_segment_dup_fd(s->id), -1);
    mdl_segment_destroy(s);
    void *p;
    ck_assert_int_eq(mdl_mem_alloc(&cfg, 1000, &p), medleySuccess);
    ck_assert_int_eq(mdl_mem_free(p), medleySuccess);
    ck_assert_int_eq(warnings, 1);
    ck_assert_ptr_nonnull(strstr(last_warning, "cannot be shared"));
}
END_TEST

/* Mounts a tmpfs of 1 MiB over `folder` for this process alone. */
static bool mount_small(const char *folder)
{
    if (unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("medley-test", folder, "tmpfs", 0, "size=1m") == 0)
        return true;
    fprintf(stderr, "skipped: no mount namespace without root: %s\n", strerror(errno));
    return false;
}

START_TEST(full_dev_shm_hands_on_to_tmp)
{
    if (!mount_small("/dev/shm") || !deny_calls(&no_memfd_eperm, 1)) return;
    struct stat shm, small, large;
    ck_assert_int_eq(stat("/dev/shm", &shm), 0);
    struct mdl_segment *a = make(512 << 10), *b = make(4 << 20);
    ck_assert_int_eq(fstat(a->fd, &small), 0);
    ck_assert_int_eq(fstat(b->fd, &large), 0);
    ck_assert_uint_eq(small.st_dev, shm.st_dev);
    ck_assert_uint_ne(large.st_dev, shm.st_dev);
    memset(b->base, 1, b->len);
    mdl_segment_destroy(a);
    mdl_segment_destroy(b);
}
END_TEST

START_TEST(full_everywhere_is_an_error)
{
    struct mdl_segment *s = NULL;
    catch_log();
    if (!mount_small("/dev/shm")) return;
    setenv("TMPDIR", "/dev/shm", 1);
    const struct deny list[] = {no_memfd_eperm, no_tmpfile};
    if (!deny_calls(list, 2)) return;
    ck_assert_int_eq(mdl_segment_create(4 << 20, false, false, &s), medleySystemError);
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), strerror(ENOSPC)));
    ck_assert_ptr_nonnull(strstr(mdl_error_text(), "/dev/shm"));
    ck_assert_int_eq(warnings, 1);
    ck_assert_int_eq(entries_in("/dev/shm"), 0);
    s = make(512 << 10); /* what failed has given its blocks back */
    mdl_segment_destroy(s);
}
END_TEST

/* ---- threads ---- */

enum { READERS = 3, WRITERS = 2, ROUNDS = 400, KEPT = 40 };
static atomic_bool stop;

/* Its own segments are always found, whatever the others do; addresses of nobody never. */
static void *look_up(void *arg)
{
    struct mdl_segment *own[2] = {make(page_size()), make(3 * page_size())};
    int local = 0;
    while (!atomic_load_explicit(&stop, memory_order_acquire)) {
        for (int i = 0; i < 2; i++) {
            struct mdl_mem mem;
            mdl_mem_describe((char *)own[i]->base + 64, 64, &mem);
            ck_assert_uint_eq(mem.segment, own[i]->id);
            ck_assert_uint_eq(mem.offset, 64);
        }
        ck_assert_uint_eq(describe(&local, sizeof(local)).segment, 0);
        int fd = mdl_segment_dup_fd(own[0]->id);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
    for (int i = 0; i < 2; i++) mdl_segment_destroy(own[i]);
    return arg;
}

static void *come_and_go(void *arg)
{
    const struct mdl_config *cfg = arg;
    void *kept[KEPT] = {NULL};
    for (int i = 0; i < ROUNDS; i++) {
        void **p = &kept[i % KEPT];
        ck_assert_int_eq(mdl_mem_free(*p), medleySuccess);
        ck_assert_int_eq(mdl_mem_alloc(cfg, page_size() * (size_t)(1 + i % 2), p), medleySuccess);
        ck_assert_uint_ne(describe(*p, 1).segment, 0);
    }
    for (int i = 0; i < KEPT; i++) ck_assert_int_eq(mdl_mem_free(kept[i]), medleySuccess);
    return NULL;
}

START_TEST(look_ups_race_with_changes)
{
    struct mdl_config cfg;
    pthread_t readers[READERS], writers[WRITERS];
    ck_assert_int_eq(mdl_config_load(&cfg), medleySuccess);
    for (int i = 0; i < READERS; i++) ck_assert_int_eq(pthread_create(&readers[i], NULL, look_up, NULL), 0);
    for (int i = 0; i < WRITERS; i++) ck_assert_int_eq(pthread_create(&writers[i], NULL, come_and_go, &cfg), 0);
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    atomic_store_explicit(&stop, true, memory_order_release);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
}
END_TEST

UNIT_MAIN("mem", segment_is_zeroed_aligned_and_private_to_exec, memory_is_reserved_unless_sparse, memfd_cannot_shrink,
          descriptor_is_never_a_standard_one, impossible_sizes_are_errors, descriptor_limit_says_ulimit,
          file_size_limit_raises_no_signal, describes_any_part, describes_nothing_that_leaves_the_segment,
          many_segments_in_any_order, a_duplicate_maps_the_same_memory, import_refuses_what_would_fault, alloc_and_free,
          free_of_anything_else_is_refused, nothing_leaks, memfd_refused_with_eperm,
          memfd_refused_with_enosys_and_no_tmpfile, fallocate_refused, seals_refused,
          everything_refused_gives_ordinary_memory, full_dev_shm_hands_on_to_tmp, full_everywhere_is_an_error,
          look_ups_race_with_changes)
